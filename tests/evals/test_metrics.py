"""Accuracy by hand: ties, groups, and the error bar."""

import math

import pytest

from grm_jax.evals.metrics import Estimate, strict, tie_credit, voting_accuracy
from grm_jax.judging.judgment import Judgment


def judged(*scores: tuple[int, ...] | None) -> list[Judgment]:
    return [
        Judgment(i, (0, 1), "", "", s, None if s else "no_box", "", 1, 0.0)
        for i, s in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("totals", "label", "is_strict", "credit"),
    [
        ((9, 3), 0, 1.0, 1.0),
        ((9, 3), 1, 0.0, 0.0),
        ((9, 9), 1, 0.0, 0.5),
        ((9, 9, 9, 1), 2, 0.0, 1 / 3),
        ((9, 9, 3), 2, 0.0, 0.0),
        ((5, 2, 2), 0, 1.0, 1.0),
    ],
)
def test_ties(totals: tuple[int, ...], label: int, is_strict: float, credit: float) -> None:
    assert strict(totals, label) == is_strict
    assert tie_credit(totals, label) == credit


def test_voting_sums_inside_disjoint_groups() -> None:
    judgments = judged((9, 1), (1, 2), (1, 2), (1, 2))
    assert voting_accuracy(judgments, 0, 1) == (0.25, 0.25)
    assert voting_accuracy(judgments, 0, 2) == (0.5, 0.5)  # (10, 3) right, (2, 4) wrong
    assert voting_accuracy(judgments, 0, 4) == (1.0, 1.0)  # (12, 7)
    assert voting_accuracy(judgments, 0, 8) is None


def test_unreadable_samples_give_nothing_and_alone_are_wrong() -> None:
    assert voting_accuracy(judged(None, (3, 1)), 0, 1) == (0.5, 0.5)
    assert voting_accuracy(judged(None, (3, 1)), 0, 2) == (1.0, 1.0)


def test_standard_error() -> None:
    estimate = Estimate.of([1.0, 0.0, 1.0, 1.0])
    assert estimate.mean == 0.75
    assert estimate.error == pytest.approx(0.5 / 2)
    assert math.isnan(Estimate.of([1.0]).error)
