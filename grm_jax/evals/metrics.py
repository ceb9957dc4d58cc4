"""Accuracy of summed scores, strict and with ties credited, with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grm_jax.judging.judgment import Judgment
from grm_jax.judging.reward import is_correct
from grm_jax.judging.voting import guide


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


def tie_credit(totals: Sequence[float], label: int) -> float:
    """What a random choice among the m highest is worth: 1/m if the label is one of them."""
    top = max(totals)
    return float(totals[label] == top) / sum(t == top for t in totals)


def voting_accuracy(
    judgments: Sequence[Judgment],
    label: int,
    k: int,
    guided: bool = False,
    k_meta: int | None = None,
) -> tuple[float, float]:
    """(strict, tie credit) of Voting@k for one item, averaged over disjoint groups of k samples.

    Disjoint groups keep the average unbiased. A group without a single readable sample is wrong,
    and so is an item with fewer than k judgments.

    Args:
        guided: sum only those that the meta RM rates highest (MetaRM@k), `k_meta` of each group.
    """
    results = []
    for start in range(0, len(judgments) - k + 1, k):
        group = judgments[start : start + k]
        if guided:
            group = guide(group, k_meta)
        scores = [j.scores for j in group if j.counted and j.scores is not None]
        totals = np.sum(scores, axis=0) if scores else None
        results.append(
            (0.0, 0.0)
            if totals is None
            else (float(is_correct(totals, label)), tie_credit(totals, label))
        )
    if not results:
        return 0.0, 0.0
    means = np.mean(results, axis=0)
    return float(means[0]), float(means[1])
