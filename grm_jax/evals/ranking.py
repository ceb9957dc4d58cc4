"""How well meta scores separate right from wrong judgments: AUC, also within items; calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

BINS = 10


class Bin(NamedTuple):
    """Judgments with similar scores: mean predicted probability, share that is right, count."""

    predicted: float
    right: float
    count: int


@dataclass(frozen=True)
class Ranking:
    """Statistics of rated judgments, each right or wrong.

    Attributes:
        items, judgments, right_share: what was rated, and the share that is right.
        mixed_items: items with both right and wrong judgments; only there can the choice between
            judgments matter.
        auc: the chance that a right judgment is rated above a wrong one, over all pairs (a tie
            counts half).
        auc_within: the same over pairs of judgments of one item, averaged over the mixed items;
            `auc_within_error` is its standard error.
        calibration_error: the distance between the predicted probability (the sigmoid of the score)
            and the share that is right, averaged over bins, weighted by their counts.
        bins: from the lowest scores to the highest.
    """

    items: int
    judgments: int
    right_share: float
    mixed_items: int
    auc: float
    auc_within: float
    auc_within_error: float
    calibration_error: float
    bins: tuple[Bin, ...]


def rank(items: Sequence[Sequence[tuple[float, bool]]]) -> Ranking:
    """Statistics of (score, right) pairs, grouped by item; nan if there is no value.

    Raises:
        ValueError: there is no rated judgment at all.
    """
    pairs = [pair for item in items for pair in item]
    if not pairs:
        raise ValueError("there is no rated judgment to measure: keep out more items.")
    within = [value for item in items if not math.isnan(value := _auc(item))]
    bins = _bins(pairs)
    return Ranking(
        items=len(items),
        judgments=len(pairs),
        right_share=float(np.mean([right for _, right in pairs])),
        mixed_items=len(within),
        auc=_auc(pairs),
        auc_within=float(np.mean(within)) if within else math.nan,
        auc_within_error=(
            float(np.std(within, ddof=1) / math.sqrt(len(within))) if len(within) > 1 else math.nan
        ),
        calibration_error=sum(abs(b.predicted - b.right) * b.count for b in bins) / len(pairs),
        bins=bins,
    )


def auc(scores: np.ndarray, right: np.ndarray, scale: float = 1.0) -> float:
    """The chance that a right one scores above a wrong one, times `scale`. A tie counts half.

    A missing score (nan) says nothing, so pairs with one count half too *(ours)*. nan if all are
    right or all are wrong.

    Args:
        scores, right: [R] a number, and 1 or 0.
    """
    right = right.astype(bool)
    pairs = int(right.sum()) * int((~right).sum())
    if not pairs:
        return math.nan
    read = ~np.isnan(scores)
    good = int(right[read].sum())
    known = good * int((~right[read]).sum())
    above = rankdata(scores[read])[right[read]].sum() - good * (good + 1) / 2
    return float(scale * (above + (pairs - known) / 2) / pairs)


def _auc(pairs: Sequence[tuple[float, bool]]) -> float:
    """The AUC; nan unless there are right and wrong ones."""
    return auc(np.array([score for score, _ in pairs]), np.array([right for _, right in pairs]))


def _bins(pairs: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    """BINS bins of equal count.

    Every judgment counts as the share of right ones among those with its score, so it does not
    matter which of them fall into which bin.
    """
    scores, groups, counts = np.unique(
        [score for score, _ in pairs], return_inverse=True, return_counts=True
    )
    share = np.bincount(groups, [is_right for _, is_right in pairs]) / counts
    order = np.sort(groups)
    parts = zip(
        np.array_split(expit(scores)[order], BINS), np.array_split(share[order], BINS), strict=True
    )
    return tuple(Bin(float(p.mean()), float(r.mean()), len(p)) for p, r in parts if len(p))
