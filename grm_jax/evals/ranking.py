"""How well meta scores tell right judgments from wrong ones: AUC, within items too; calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import mannwhitneyu

BINS = 10


@dataclass(frozen=True)
class Ranking:
    """Of rated judgments, each right or wrong.

    Attributes:
        items, judgments, right_share: what was rated.
        mixed_items: items with right and with wrong judgments, the only ones where a choice
            between judgments can matter.
        auc: the chance that a right judgment is rated above a wrong one, over all (ties half).
        auc_within: the same for two judgments of one item, averaged over the mixed items;
            `auc_within_error` is its standard error.
        calibration_error: the mean distance between the predicted probability (the sigmoid of the
            score) and the share of right ones, over bins of equal count weighted by it.
        bins: per bin (mean predicted, share right, count).
    """

    items: int
    judgments: int
    right_share: float
    mixed_items: int
    auc: float
    auc_within: float
    auc_within_error: float
    calibration_error: float
    bins: tuple[tuple[float, float, int], ...]


def rank(items: Sequence[Sequence[tuple[float, bool]]]) -> Ranking:
    """Measures (score, right) pairs, grouped by item. What has no value is nan.

    Raises:
        ValueError: there is no rated judgment at all.
    """
    pairs = [pair for item in items for pair in item]
    if not pairs:
        raise ValueError("there is no rated judgment to measure: keep out more items.")
    within = [value for value in map(auc, items) if not math.isnan(value)]
    bins = _bins(pairs)
    return Ranking(
        items=len(items),
        judgments=len(pairs),
        right_share=float(np.mean([right for _, right in pairs])),
        mixed_items=len(within),
        auc=auc(pairs),
        auc_within=float(np.mean(within)) if within else math.nan,
        auc_within_error=(
            float(np.std(within, ddof=1) / math.sqrt(len(within))) if len(within) > 1 else math.nan
        ),
        calibration_error=sum(abs(p - s) * n for p, s, n in bins) / len(pairs),
        bins=bins,
    )


def auc(pairs: Sequence[tuple[float, bool]]) -> float:
    """The area under the ROC curve; nan unless there are right and wrong ones."""
    right = [score for score, is_right in pairs if is_right]
    wrong = [score for score, is_right in pairs if not is_right]
    if not right or not wrong:
        return math.nan
    statistic = mannwhitneyu(right, wrong, method="asymptotic").statistic
    return float(statistic / (len(right) * len(wrong)))


def _bins(pairs: Sequence[tuple[float, bool]]) -> tuple[tuple[float, float, int], ...]:
    """(mean predicted probability, share right, count) of BINS parts of equal count.

    Judgments with one score are as right as they are on the mean, so that it does not matter which
    of them come into which part.
    """
    scores, places, counts = np.unique(
        [score for score, _ in pairs], return_inverse=True, return_counts=True
    )
    share = np.bincount(places, [is_right for _, is_right in pairs]) / counts
    order = np.sort(places)
    parts = zip(
        np.array_split(expit(scores)[order], BINS), np.array_split(share[order], BINS), strict=True
    )
    return tuple((float(p.mean()), float(r.mean()), len(p)) for p, r in parts if len(p))
