"""Sums, rankings and ties of k judgments.

How often a winner changes under each stated confidence is printed (pytest -s).
"""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.judging.judgment import Judgment
from grm_jax.judging.voting import guide, still_needed, vote


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


def rated(metas: list[float | None], invalid: tuple[int, ...] = ()) -> list[Judgment]:
    """One judgment per meta score, numbered in order; those in `invalid` have no scores."""
    return [
        replace(judgment(None if i in invalid else (i + 1, 5), sample=i), meta=meta)
        for i, meta in enumerate(metas)
    ]


def kept(judgments: list[Judgment], k_meta: int | None = None) -> list[int]:
    return [j.sample for j in guide(judgments, k_meta) if j.counted]


@pytest.mark.parametrize(
    ("k_meta", "samples"), [(1, [3]), (2, [1, 3]), (3, [1, 3, 4]), (4, [0, 1, 3, 4])]
)
def test_guiding_keeps_the_highest_by_meta(k_meta: int, samples: list[int]) -> None:
    assert kept(rated([-1.0, 2.5, -3.0, 4.0, 0.0]), k_meta) == samples


@pytest.mark.parametrize(("k", "half"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)])
def test_guiding_keeps_half_and_at_least_one_by_default(k: int, half: int) -> None:
    assert kept(rated([float(i) for i in range(k)])) == list(range(k - half, k))


def test_equal_meta_scores_go_by_sample_number() -> None:
    judgments = rated([1.0, 7.0, 1.0, 1.0])
    assert kept(judgments, 3) == [0, 1, 2]
    assert sorted(kept(judgments[::-1], 3)) == [0, 1, 2]


def test_judgments_without_scores_never_count() -> None:
    judgments = rated([9.0, 1.0, 8.0, 2.0], invalid=(0, 2))
    assert kept(judgments, 1) == [3]
    assert kept(judgments, 2) == [1, 3]
    assert kept(judgments, 4) == [1, 3]
    assert kept(rated([1.0, 2.0], invalid=(0, 1))) == []


def test_unrated_judgments_come_last() -> None:
    judgments = rated([None, -1e30, None, 0.0])
    assert kept(judgments, 2) == [1, 3]
    assert kept(judgments, 3) == [0, 1, 3]
    assert kept(rated([None, None, None]), 2) == [0, 1]


@pytest.mark.parametrize("k_meta", [0, -2])
def test_guiding_to_nothing_is_refused(k_meta: int) -> None:
    with pytest.raises(ValueError, match=f"k_meta is {k_meta};"):
        guide(rated([1.0, 2.0]), k_meta)


METAS = st.lists(st.none() | st.integers(-2, 2).map(float), min_size=1, max_size=8)


@given(METAS, st.integers(1, 10), st.data())
def test_a_judgment_counts_if_fewer_than_k_meta_go_before_it(
    metas: list[float | None], k_meta: int, data: st.DataObject
) -> None:
    invalid = data.draw(st.sets(st.integers(0, len(metas) - 1)))
    judgments = data.draw(st.permutations(rated(metas, tuple(invalid))))

    def before(a: Judgment, b: Judgment) -> bool:
        if a.meta == b.meta:
            return a.sample < b.sample
        return b.meta is None or (a.meta is not None and a.meta > b.meta)

    valid = [j for j in judgments if j.scores is not None]
    wanted = [j.sample for j in valid if sum(before(other, j) for other in valid) < k_meta]
    assert kept(judgments, k_meta) == wanted
    assert [replace(j, counted=True) for j in guide(judgments, k_meta)] == judgments


def test_a_vote_sums_only_what_counts_and_divides_by_its_number() -> None:
    judgments = [
        judgment((9, 1), sample=0),
        replace(judgment((1, 10), sample=1), counted=False),
        judgment((3, 6), sample=2),
        judgment(None, sample=3),
        judgment((7, 1), sample=4),
    ]
    verdict = vote("a", judgments, 2, np.random.default_rng(0))
    assert verdict is not None
    assert verdict.scores == (19, 8)
    assert verdict.margin == (19 - 8) / 3
    assert (verdict.best, verdict.valid, verdict.k) == (0, 4, 5)
    assert verdict.judgments == tuple(judgments)


def test_nothing_counted_is_no_verdict() -> None:
    judgments = [replace(judgment((3, 4)), counted=False), judgment(None, sample=1)]
    assert vote("a", judgments, 2, np.random.default_rng(0)) is None


def test_a_guide_can_turn_the_verdict() -> None:
    scores, metas = [(9, 1), (9, 1), (3, 5), (4, 5)], [-1.0, 0.0, 3.0, 2.0]
    judgments = [
        replace(judgment(s, sample=i), meta=m)
        for i, (s, m) in enumerate(zip(scores, metas, strict=True))
    ]
    plain = vote("a", judgments, 2, np.random.default_rng(0))
    guided = vote("a", guide(judgments), 2, np.random.default_rng(0))
    assert plain is not None
    assert guided is not None
    assert (plain.best, plain.scores) == (0, (25, 12))
    assert (guided.best, guided.scores, guided.margin) == (1, (7, 10), 1.5)
    assert (guided.valid, guided.k) == (4, 4)


@given(METAS, st.data())
def test_guiding_to_all_is_plain_voting(metas: list[float | None], data: st.DataObject) -> None:
    k = len(metas)
    scores = [data.draw(st.none() | st.tuples(*[st.integers(1, 10)] * 3)) for _ in metas]
    judgments = [
        replace(judgment(s, sample=i, n=3), meta=m)
        for i, (s, m) in enumerate(zip(scores, metas, strict=True))
    ]
    plain = vote("a", judgments, 3, np.random.default_rng(k))
    # Past k as well; and the half of one judgment is that one.
    for k_meta in (k, k + 3, *([None] if k == 1 else [])):
        guided = vote("a", guide(judgments, k_meta), 3, np.random.default_rng(k))
        assert (plain is None) == (guided is None)
        if plain is not None and guided is not None:
            assert replace(guided, judgments=()) == replace(plain, judgments=())


OUTCOMES = [None, *itertools.product((0, 1, 2), repeat=2)]  # of a sample, on a scale of 0 to 2


def winners(drawn: list[tuple[int, int] | None]) -> set[int]:
    totals = np.sum([scores for scores in drawn if scores is not None] or [(0, 0)], axis=0)
    return set(np.flatnonzero(totals == totals.max()).tolist())


@given(st.lists(st.sampled_from(OUTCOMES), max_size=5), st.integers(0, 3))
def test_voting_ends_when_no_outcome_can_change_the_winner(drawn: list, left: int) -> None:
    """By trying all outcomes of the samples that are left."""

    def needed(more: tuple) -> int:
        judgments = [judgment(scores, i) for i, scores in enumerate([*drawn, *more])]
        return still_needed(judgments, len(drawn) + left, 2, spread=2)

    ends = {
        frozenset(winners([*drawn, *rest])) for rest in itertools.product(OUTCOMES, repeat=left)
    }
    decided = len(ends) == 1 and (left == 0 or len(winners(drawn)) == 1)
    least = needed(())
    assert (least == 0) == decided
    for count in range(left + 1):
        can_end = any(needed(more) == 0 for more in itertools.product(OUTCOMES, repeat=count))
        assert can_end == (count >= least)


def test_one_response_has_a_score_and_no_winner() -> None:
    assert still_needed([judgment((9,), 0, n=1)], 4, 1, spread=9) == 3


@given(
    st.lists(st.sampled_from(OUTCOMES), max_size=4),
    st.integers(0, 3),
    st.sampled_from([0.5, 0.8, 0.95, 1]),
)
def test_it_takes_at_least_as_many_samples_as_it_says(
    drawn: list, left: int, confidence: float
) -> None:
    def needed(more: tuple, confidence: float) -> int:
        judgments = [judgment(scores, i) for i, scores in enumerate([*drawn, *more])]
        return still_needed(judgments, len(drawn) + left, 2, 2, confidence)

    least = needed((), confidence)
    assert least <= needed((), 1), "less confidence takes no more samples"
    for count in range(least):
        for more in itertools.product(OUTCOMES, repeat=count):
            assert needed(more, confidence) > 0


Draw = Callable[[np.random.Generator], np.ndarray]
K = 32


def votes(rng: np.random.Generator, share: float) -> np.ndarray:
    """One of two is voted for."""
    first = rng.random(K) < share
    return np.stack([first, ~first], axis=1).astype(float)


def scores(rng: np.random.Generator, means: np.ndarray) -> np.ndarray:
    return np.clip(np.round(rng.normal(5.5 + means, 2.5, (K, len(means)))), 1, 10)


def seldom_much(rng: np.random.Generator) -> np.ndarray:
    """One is a little better mostly, and seldom much worse: few samples do not show it."""
    ahead = np.where(rng.random(K) < rng.choice([0.05, 0.1, 0.2]), -9, rng.integers(0, 2, K))
    pair = np.stack([5.5 + ahead / 2, 5.5 - ahead / 2], axis=1)
    return pair[:, rng.permutation(2)]


# The width of the scale, and what draws the scores of all K samples of an item, [K, responses].
CASES: dict[str, tuple[int, Draw]] = {
    "even votes": (1, lambda rng: votes(rng, 0.5)),
    "votes": (1, lambda rng: votes(rng, rng.random())),
    "equal scores": (9, lambda rng: scores(rng, np.zeros(2))),
    "scores": (9, lambda rng: scores(rng, rng.normal(0, 1.5, 2))),
    "four": (9, lambda rng: scores(rng, rng.normal(0, 1, 4))),
    "seldom much": (9, seldom_much),
}


def judged(every: np.ndarray, spread: int, confidence: float) -> tuple[int, list[int]]:
    """How many samples it takes, and who has the highest sum of these."""
    judgments = [judgment(tuple(row), i) for i, row in enumerate(every.tolist())]
    count, n = 0, every.shape[1]
    while more := still_needed(judgments[:count], K, n, spread, confidence):
        count += more
    totals = every[:count].sum(axis=0)
    return count, np.flatnonzero(np.isclose(totals, totals.max())).tolist()


@pytest.mark.parametrize("case", CASES)
def test_no_more_winners_change_than_the_confidence_allows(case: str) -> None:
    """With 1 the winners are those of all votes."""
    (spread, draw), rng = CASES[case], np.random.default_rng(0)
    items = [draw(rng) for _ in range(200)]
    exact = [judged(every, spread, 1) for every in items]
    wanted = [every.sum(axis=0) for every in items]
    assert [best for _, best in exact] == [
        np.flatnonzero(np.isclose(totals, totals.max())).tolist() for totals in wanted
    ]
    votes = [sum(count for count, _ in exact)]
    for confidence in (0.99, 0.95, 0.8):
        found = [judged(every, spread, confidence) for every in items]
        changed = np.mean([a != b for (_, a), (_, b) in zip(found, exact, strict=True)])
        votes.append(sum(count for count, _ in found))
        saved = 1 - votes[-1] / (K * len(items))
        print(f"\n{case}, {confidence}: {changed:.1%} changed, {saved:.1%} of votes saved", end="")
        assert changed <= 1 - confidence
    print(f"; exactly {1 - votes[0] / (K * len(items)):.1%}", end="")
    assert votes == sorted(votes, reverse=True)
    assert votes[-1] < votes[0]


def test_a_few_samples_that_agree_do_not_decide() -> None:
    alike = [judgment((10, 1), i) for i in range(32)]
    first = still_needed([], 32, 2, 9, 0.99)
    assert 10 < first < still_needed([], 32, 2, 9), "each for one response, by the whole scale"
    assert still_needed(alike[:first], 32, 2, 9, 0.99) == 0
    little = [judgment((6, 5), i) for i in range(32)]
    assert still_needed(little[:first], 32, 2, 9, 0.99) > 0
    assert still_needed(little[:28], 32, 2, 9, 0.99) == 0
