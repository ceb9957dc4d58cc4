"""95 % intervals of percentages and of their differences, with correct coverage on few rows too.

The spread of a cell over the resamplings (see `bootstrap`) gives its effective sample size: the
number of independent yes-or-no rows that would vary as much (Korn and Graubard, Survey Methodology
24, 1998). For that many rows the exact interval is computed, with the observed outcome counted half
(mid-P). It therefore stays within the scale, has a width even if all rows agree, and for many rows
is the familiar one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import betainc

TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """A percentage, or the difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float


def percentage(value: float, draws: np.ndarray) -> Interval:
    """The interval of a cell in percent; nan if no resampling has a value (an AUC of one class).

    draws: the cell on resampled rows, among which there are extreme ones.
    """
    return _scaled(value, draws, 0.0, 100.0)


def difference(value: float, draws: np.ndarray) -> Interval:
    """The interval of a difference of two percentages, from resamplings of the difference."""
    return _scaled(value, draws, -100.0, 100.0)


def exact(share: float, count: float) -> tuple[float, float]:
    """The mid-P interval of a share of `count` rows; neither `share * count` nor `count` need be
    whole."""
    hits = share * count

    def below(p: float) -> float:
        """The chance of fewer hits, plus half that of as many, if p is the truth."""
        fewer = betainc(count - hits + 1, hits, 1 - p) if hits > 0 else 0.0
        as_many = betainc(count - hits, hits + 1, 1 - p) if hits < count else 1.0
        return float(fewer + as_many) / 2

    low, high = 0.0, 1.0
    if hits > 0:
        low = float(root_scalar(lambda p: 1 - below(p) - TAIL, bracket=(0.0, share)).root)
    if hits < count:
        high = float(root_scalar(lambda p: below(p) - TAIL, bracket=(share, 1.0)).root)
    return low, high


def effective_count(draws: np.ndarray) -> float:
    """The number of yes-or-no rows whose mean varies like these draws (0 to 1); at least one."""
    variance = float(draws.var())
    mean = float(draws.mean())
    return max(mean * (1 - mean) / variance, 1.0) if variance > 0 else math.inf


def _scaled(value: float, draws: np.ndarray, bottom: float, top: float) -> Interval:
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(known):
        return Interval(value, math.nan, math.nan)
    width = top - bottom
    count = effective_count((known - bottom) / width)
    if math.isinf(count):  # no judge could change it
        return Interval(value, value, value)
    share = min(max((value - bottom) / width, 0.0), 1.0)
    low, high = (bottom + width * end for end in exact(share, count))
    # If a bonus lifts a cell above its scale, as in RewardBench 2's Ties, the cell is the end.
    return Interval(value, min(low, value), max(high, value))
