"""Accuracy by hand: ties, groups, and the error bar."""

import math

import pytest

from grm_jax.evals.metrics import Estimate, tie_credit, voting_accuracy
from grm_jax.judging.judgment import Judgment


def judged(
    *scores: tuple[int, ...] | None, meta: tuple[float | None, ...] | None = None
) -> list[Judgment]:
    metas = meta or (None,) * len(scores)
    return [
        Judgment(i, (0, 1), "", "", s, None if s else "no_box", "", 1, 0.0, m)
        for i, (s, m) in enumerate(zip(scores, metas, strict=True))
    ]


@pytest.mark.parametrize(
    ("totals", "label", "credit"),
    [
        ((9, 3), 0, 1.0),
        ((9, 3), 1, 0.0),
        ((9, 9), 1, 0.5),
        ((9, 9, 9, 1), 2, 1 / 3),
        ((9, 9, 3), 2, 0.0),
        ((5, 2, 2), 0, 1.0),
    ],
)
def test_ties(totals: tuple[int, ...], label: int, credit: float) -> None:
    assert tie_credit(totals, label) == credit


def test_voting_sums_inside_disjoint_groups() -> None:
    judgments = judged((9, 1), (1, 2), (1, 2), (1, 2))
    assert voting_accuracy(judgments, 0, 1) == (0.25, 0.25)
    assert voting_accuracy(judgments, 0, 2) == (0.5, 0.5)  # (10, 3) right, (2, 4) wrong
    assert voting_accuracy(judgments, 0, 4) == (1.0, 1.0)  # (12, 7)
    assert voting_accuracy(judgments, 0, 8) == (0.0, 0.0)  # there are no eight
    assert voting_accuracy(judged((9, 9), (2, 1)), 0, 1) == (0.5, 0.75)


def test_guided_voting_keeps_the_better_rated_half_of_each_group() -> None:
    right, wrong = (9, 1), (1, 10)
    judgments = judged(right, wrong, wrong, right, meta=(2.0, 1.0, 3.0, -1.0))
    assert voting_accuracy(judgments, 0, 2) == (0.0, 0.0)
    assert voting_accuracy(judgments, 0, 2, guided=True) == (0.5, 0.5)
    assert voting_accuracy(judgments, 0, 4, guided=True) == (0.0, 0.0)  # 2.0 and 3.0: 10 to 11
    assert voting_accuracy(judgments, 0, 4, guided=True, k_meta=1) == (0.0, 0.0)
    for k in (1, 2, 4):
        assert voting_accuracy(judgments, 0, k, guided=True, k_meta=4) == voting_accuracy(
            judgments, 0, k
        )


def test_unreadable_samples_give_nothing_and_alone_are_wrong() -> None:
    assert voting_accuracy(judged(None, (3, 1)), 0, 1) == (0.5, 0.5)
    assert voting_accuracy(judged(None, (3, 1)), 0, 2) == (1.0, 1.0)


def test_standard_error() -> None:
    estimate = Estimate.of([1.0, 0.0, 1.0, 1.0])
    assert estimate.mean == 0.75
    assert estimate.error == pytest.approx(0.5 / 2)
    assert math.isnan(Estimate.of([1.0]).error)
