"""Sums, rankings and ties of k judgments."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.judging.judgment import Judgment
from grm_jax.judging.voting import vote


def judgment(scores: tuple[int, ...] | None, sample: int = 0, n: int = 2) -> Judgment:
    order = tuple(range(len(scores) if scores else n))
    reason = None if scores else "no_box"
    return Judgment(sample, order, "p", "c", scores, reason, "text", 5, -1.0)


def test_scores_are_summed_over_readable_judgments() -> None:
    rng = np.random.default_rng(0)
    judgments = [judgment((7, 4, 9)), judgment(None, n=3), judgment((2, 8, 9))]
    verdict = vote("a", judgments, 3, rng)
    assert verdict is not None
    assert verdict.scores == (9, 12, 18)
    assert verdict.ranking == (2, 1, 0)
    assert (verdict.best, verdict.tied, verdict.valid, verdict.k) == (2, (2,), 2, 3)
    assert verdict.margin == (18 - 12) / 2
    assert verdict.invalid_reasons == {"no_box": 1}


def test_nothing_readable_is_no_verdict() -> None:
    assert vote("a", [judgment(None)] * 4, 2, np.random.default_rng(0)) is None


def test_ties_are_broken_at_random_by_the_key_alone() -> None:
    judgments = [judgment((5, 5, 3))]
    best = Counter(
        verdict.best
        for seed in range(400)
        if (verdict := vote("a", judgments, 3, np.random.default_rng(seed)))
    )
    assert set(best) == {0, 1}
    assert 140 < best[0] < 260  # 200 +- 6 standard deviations
    again = [vote("a", judgments, 3, np.random.default_rng(9)) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] is not None
    assert again[0].tied == (0, 1)
    assert again[0].margin == 0


@given(
    st.lists(st.tuples(*[st.integers(1, 10)] * 4), min_size=1, max_size=9),
    st.permutations(range(4)),
)
def test_permuting_the_responses_permutes_the_sums(
    scores: list[tuple[int, ...]], order: list[int]
) -> None:
    plain = vote("a", [judgment(s) for s in scores], 4, np.random.default_rng(0))
    moved = [judgment(tuple(s[i] for i in order)) for s in scores]
    other = vote("a", moved, 4, np.random.default_rng(0))
    assert plain is not None
    assert other is not None
    assert other.scores == tuple(plain.scores[i] for i in order)
    assert {order[i] for i in other.tied} == set(plain.tied)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_ranking_is_a_permutation(n: int) -> None:
    verdict = vote("a", [judgment((3,) * n)], n, np.random.default_rng(1))
    assert verdict is not None
    assert sorted(verdict.ranking) == list(range(n))
