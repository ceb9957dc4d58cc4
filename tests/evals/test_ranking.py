"""AUC and calibration by hand."""

import math

import numpy as np
import pytest

from grm_jax.evals.ranking import auc, rank


@pytest.mark.parametrize(
    ("pairs", "value"),
    [
        ([(1.0, True), (0.0, False)], 1.0),
        ([(0.0, True), (1.0, False)], 0.0),
        ([(0.5, True), (0.5, False)], 0.5),
        # Right 3 and 1, wrong 2 and 1: above, above, below, tied.
        ([(3.0, True), (1.0, True), (2.0, False), (1.0, False)], 2.5 / 4),
    ],
)
def test_auc_counts_pairs_and_ties_as_half(pairs, value):
    assert auc(pairs) == pytest.approx(value)


@pytest.mark.parametrize("pairs", [[], [(1.0, True)], [(1.0, False), (2.0, False)]])
def test_auc_of_one_kind_alone_is_not_known(pairs):
    assert math.isnan(auc(pairs))


def test_auc_equals_counting_every_pair():
    rng = np.random.default_rng(0)
    pairs = [(float(rng.integers(8)), bool(rng.random() < 0.3)) for _ in range(200)]
    right = [s for s, r in pairs if r]
    wrong = [s for s, r in pairs if not r]
    wins = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    assert auc(pairs) == pytest.approx(np.mean(wins))


def test_within_an_item_and_over_all_are_different_things():
    # Scores tell easy items from hard ones, and inside each item they are the wrong way round.
    easy = [(10.0, True), (9.0, True), (11.0, False)]
    hard = [(-10.0, False), (-11.0, True), (-9.0, False)]
    always = [(0.0, True), (1.0, True)]
    ranking = rank([easy, hard, always])
    assert (ranking.items, ranking.judgments, ranking.mixed_items) == (3, 8, 2)
    assert ranking.right_share == 5 / 8
    assert ranking.auc_within == 0.0
    assert ranking.auc == pytest.approx(8 / 15)
    assert ranking.auc_within_error == 0.0


def test_error_within_is_over_items():
    good, bad = [(1.0, True), (0.0, False)], [(0.0, True), (1.0, False)]
    ranking = rank([good, good, good, bad])
    assert ranking.auc_within == 0.75
    assert ranking.auc_within_error == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / 2)


def test_calibration_of_a_forecast_that_is_kept():
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 2, 20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-scores))
    kept = rank([list(zip(scores.tolist(), right.tolist(), strict=True))])
    assert kept.calibration_error < 0.02
    assert sum(n for _, _, n in kept.bins) == 20_000
    assert len(kept.bins) == 10
    sure = rank([[(s * 10, r) for s, r in zip(scores.tolist(), right.tolist(), strict=True)]])
    assert sure.calibration_error > 0.1  # far too sure of itself


def test_calibration_does_not_depend_on_the_order_of_ties():
    """Half of the judgments that are rated alike are right, as their rating says."""
    right, wrong = (0.0, True), (0.0, False)
    for items in ([right] * 50 + [wrong] * 50, [wrong] * 50 + [right] * 50, [right, wrong] * 50):
        found = rank([items])
        assert found.calibration_error == pytest.approx(0)
        assert all(bin == pytest.approx((0.5, 0.5, 10)) for bin in found.bins)


def test_nothing_rated_is_refused():
    with pytest.raises(ValueError, match="no rated judgment"):
        rank([[], []])
