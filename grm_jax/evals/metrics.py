"""Accuracy of summed scores, strict and with ties credited, with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grm_jax.judging.judgment import Judgment


@dataclass(frozen=True)
class Estimate:
    """A mean over items and its standard error (both in the unit of the values)."""

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The mean of per-item values; its error is the sample deviation over sqrt(count)."""
        array = np.asarray(values, np.float64)
        error = array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.nan
        return cls(float(array.mean()), float(error), len(array))


def strict(totals: Sequence[float], label: int) -> float:
    """1 if the labelled response has strictly the highest total (equation 10), else 0."""
    return float(all(totals[label] > t for i, t in enumerate(totals) if i != label))


def tie_credit(totals: Sequence[float], label: int) -> float:
    """What a random choice among the m highest is worth: 1/m if the label is one of them."""
    top = max(totals)
    return float(totals[label] == top) / sum(t == top for t in totals)


def voting_accuracy(
    judgments: Sequence[Judgment], label: int, k: int
) -> tuple[float, float] | None:
    """(strict, tie credit) of Voting@k for one item, averaged over disjoint groups of k samples.

    Disjoint groups keep the average unbiased. A group without a single readable sample is wrong.
    None if there are fewer than k judgments.
    """
    groups = [judgments[i : i + k] for i in range(0, len(judgments) - k + 1, k)]
    if not groups:
        return None
    results = []
    for group in groups:
        scores = [j.scores for j in group if j.scores is not None]
        totals = np.sum(scores, axis=0) if scores else None
        results.append(
            (0.0, 0.0) if totals is None else (strict(totals, label), tie_credit(totals, label))
        )
    means = np.mean(results, axis=0)
    return float(means[0]), float(means[1])
