"""From verdicts to rewards: bounds, ties, and that the order of responses does not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.judging.judgment import Judgment
from grm_jax.judging.voting import vote
from grm_jax.rewards.scale import Scale, rewards_of


def rewards(scores: list[int], scale: Scale, samples: int = 1) -> tuple[float, ...]:
    judgments = [
        Judgment(i, tuple(range(len(scores))), "", "", tuple(scores), None, "", 9, -1.0)
        for i in range(samples)
    ]
    verdict = vote("", judgments, len(scores), np.random.default_rng(0))
    assert verdict is not None
    return rewards_of(verdict, scale, 1, 10)


SCORES = st.lists(st.integers(1, 10), min_size=2, max_size=8)


@given(SCORES, st.integers(1, 3))
def test_means_do_not_depend_on_how_many_samples_count(scores: list[int], samples: int) -> None:
    assert rewards(scores, "mean", samples) == tuple(scores)
    units = rewards(scores, "unit", samples)
    assert units == pytest.approx([(score - 1) / 9 for score in scores])


def test_the_ends_of_the_scale_are_0_and_1() -> None:
    assert rewards([1, 10], "unit") == (0.0, 1.0)
    assert rewards([10], "unit") == (1.0,)


@pytest.mark.parametrize(
    ("scores", "ranks", "best"),
    [
        ([3, 9, 5], (0.0, 1.0, 0.5), (0.0, 1.0, 0.0)),
        ([9, 9, 1], (0.75, 0.75, 0.0), (0.5, 0.5, 0.0)),
        ([4, 4, 4], (0.5, 0.5, 0.5), (1 / 3, 1 / 3, 1 / 3)),
        ([2, 1, 1, 7], (2 / 3, 1 / 6, 1 / 6, 1.0), (0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_ties_share(scores: list[int], ranks: tuple, best: tuple) -> None:
    assert rewards(scores, "rank") == pytest.approx(ranks)
    assert rewards(scores, "best") == pytest.approx(best)


@given(SCORES, st.data())
@pytest.mark.parametrize("scale", ["mean", "unit", "rank", "best"])
def test_permuted_responses_have_permuted_rewards(
    scale: Scale, scores: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(scores))))
    before, after = rewards(scores, scale), rewards([scores[i] for i in order], scale)
    assert after == pytest.approx([before[i] for i in order])


@given(SCORES)
def test_ranks_and_shares_add_up(scores: list[int]) -> None:
    ranks, best = rewards(scores, "rank"), rewards(scores, "best")
    assert math.fsum(ranks) == pytest.approx(len(scores) / 2)
    assert math.fsum(best) == pytest.approx(1)
    assert all(0 <= x <= 1 for x in (*ranks, *best))


@pytest.mark.parametrize("scale", ["rank", "best"])
def test_one_response_is_not_compared(scale: Scale) -> None:
    with pytest.raises(ValueError, match="there is only one"):
        rewards([7], scale)
