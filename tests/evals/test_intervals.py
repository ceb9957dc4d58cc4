"""Intervals hold the truth as often as they say: exactly, over all outcomes, on few rows and many.

The coverage of each case is printed (pytest -s); the chance of an outcome is the binomial law's, so
that nothing is left to chance but the redrawings, whose seed is fixed.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import isnan

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom, multinomial

from grm_jax.evals.benchmark import Table
from grm_jax.evals.benchmarks.labelled import WORLD_SINGLE
from grm_jax.evals.intervals import difference, effective_count, exact, percentage
from grm_jax.evals.scoring import differences, intervals
from tests.evals.judged import benchmark, example

LEAST = 0.93


def _means(table):
    """By number of a column of values, its mean: over the rows of A, or of A and B half each."""
    parts = [part.mean(0) for name in "AB" if len(part := table.of(name))]
    return {str(i): 100 * value for i, value in enumerate(np.mean(parts, 0).tolist())}


# Every outcome is a column, so that one run of the bootstrap is of them all.
MEANS = replace(benchmark([example("a", "A"), example("b", "B")]), cells=_means)


def table(values, subset=None):
    """values: of each row (a line) in each outcome (a column)."""
    values = np.array(values, float)
    rows = len(values)
    return Table(
        np.array(subset or ["A"] * rows),
        np.arange(rows).astype(str),
        values,
        extremes=(np.ones_like(values), np.zeros_like(values)),
    )


def right(counts, rows):
    """Of so many rows so many are right, by outcome."""
    return np.arange(rows)[:, None] < np.array(counts)[None, :]


def told(what, found, chances):
    """Prints and checks the coverage, from (truth in percent, chance of each outcome) by case."""
    coverage = {
        case: sum(
            chance
            for i, chance in zip(found, law, strict=True)
            if i.low - 1e-9 <= truth <= i.high + 1e-9
        )
        for case, (truth, law) in chances.items()
    }
    print(f"\n{what}: " + ", ".join(f"{case} {100 * c:.1f} %" for case, c in coverage.items()))
    assert min(coverage.values()) >= LEAST, what


@pytest.mark.parametrize("rows", [2, 5, 12, 50, 200])
def test_a_share_of_rows(rows):
    counts = np.arange(rows + 1)
    found = list(intervals(MEANS, [table(right(counts, rows))]).values())
    chances = {p: (100 * p, binom.pmf(counts, rows, p)) for p in (0.5, 0.8, 0.95, 0.99)}
    told(f"{rows} rows", found, chances)
    assert all(0 <= i.low <= i.value <= i.high <= 100 for i in found)
    assert all(i.high - i.low > 100 / (rows + 2) for i in found)


@pytest.mark.parametrize("rows", [(2, 2), (5, 5), (2, 50), (12, 12), (12, 50)])
def test_a_mean_of_two_subsets(rows):
    first, second = rows
    a, b = np.array(list(product(range(first + 1), range(second + 1)))).T
    judged = np.concatenate([right(a, first), right(b, second)])
    subset = ["A"] * first + ["B"] * second
    found = list(intervals(MEANS, [table(judged, subset)]).values())
    chances = {
        (p, q): (50 * (p + q), binom.pmf(a, first, p) * binom.pmf(b, second, q))
        for p, q in ((0.5, 0.5), (0.8, 0.8), (0.95, 0.95), (0.95, 0.5), (0.99, 0.8))
    }
    told(f"the mean of {first} and {second} rows", found, chances)


@pytest.mark.parametrize("rows", [2, 5, 12, 25])
def test_a_paired_difference(rows):
    """By (won, lost): the chances that only the second judge is right, and that only the first."""
    won, lost = np.array([p for p in product(range(rows + 1), repeat=2) if sum(p) <= rows]).T
    # The first rows are lost, then those that are won, and both judges have the others right.
    a = right(lost, rows) | ~right(lost + won, rows)
    b = ~right(lost, rows)
    found = list(differences(MEANS, [table(a)], [table(b)]).values())
    chances = {
        (w, x): (
            100 * (w - x),
            multinomial.pmf(np.stack([won, lost, rows - won - lost], 1), rows, [w, x, 1 - w - x]),
        )
        for w, x in ((0.1, 0.1), (0.3, 0.2), (0.05, 0.0), (0.02, 0.02), (0.5, 0.05), (0.3, 0.1))
    }
    told(f"a difference on {rows} rows", found, chances)
    assert all(-100 <= i.low <= i.value <= i.high <= 100 for i in found)


@pytest.mark.parametrize(("rows", "apart"), [(12, 3.0), (40, 1.0)])
def test_an_area_under_the_curve(rows, apart):
    """Of normal scores, half of them of right rows, whose mean is so much higher."""
    rng, truth, held, count = np.random.default_rng(0), 100 * ndtr(apart / 2**0.5), 0, 50
    right = np.arange(rows) % 2
    for seed in range(count):
        values = np.stack([np.full(rows, np.nan), rng.normal(apart * right), right], 1)
        ends = (np.where(right, np.inf, -np.inf), np.where(right, -np.inf, np.inf))
        best, worst = (np.stack([values[:, 0], end, right], 1) for end in ends)
        judged = Table(
            np.full(rows, "no ask"), np.arange(rows).astype(str), values, extremes=(best, worst)
        )
        found = intervals(WORLD_SINGLE, [judged], resamples=100, seed=seed)["ROC-AUC"]
        held += found.low <= truth <= found.high
    print(f"\nAUC {truth:.1f} on {rows} rows: {100 * held / count:.1f} %")
    assert held / count >= LEAST


def test_of_few_rows_that_agree_it_has_a_width():
    two = intervals(MEANS, [table(right([2], 2))])["0"]
    twelve = intervals(MEANS, [table(right([11], 12))])["0"]
    assert (two.value, two.high) == (100, 100)
    assert two.low == pytest.approx(22.4, abs=3)  # 0.05 ** (1 / 2)
    assert (twelve.low, twelve.high) == pytest.approx((65.3, 99.6), abs=3)


def test_it_is_the_exact_one_by_hand():
    # Of one hit in two: the chance of none, and half that of one, is 1 - p.
    assert exact(0.5, 2) == pytest.approx((0.025, 0.975))
    # Of two in two: half of p ** 2.
    assert exact(1.0, 2) == pytest.approx((0.05**0.5, 1.0))
    assert exact(0.0, 2) == pytest.approx((0.0, 1 - 0.05**0.5))


def test_draws_are_worth_as_many_rows_as_they_vary():
    rng = np.random.default_rng(0)
    assert effective_count(rng.binomial(50, 0.7, 100_000) / 50) == pytest.approx(50, rel=0.02)


def test_where_there_is_no_value_there_is_no_interval():
    assert isnan(percentage(float("nan"), np.array([1.0, 2.0])).low)
    assert isnan(percentage(50.0, np.array([float("nan")])).high)


def test_a_bonus_above_the_scale_is_its_own_end():
    found = percentage(100.4, np.array([99.0, 100.4, 98.0]))
    assert found.low < 98.5
    assert found.high == 100.4
    assert difference(0.0, np.zeros(9)).low == 0
