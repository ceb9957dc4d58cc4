"""The area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata


def auc(scores: np.ndarray, right: np.ndarray, scale: float = 1.0) -> float:
    """The chance that a right one scores above a wrong one, a tie counting half, times `scale`.

    What has no score (nan) says nothing, so that each pair with it counts half too *(ours)*. nan
    where all are right or all are wrong.

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
