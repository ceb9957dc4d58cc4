"""Accuracies over items, by hand: ties, groups of samples, and the error bar."""

import math

import numpy as np
import pytest

from grm_jax.evals.benchmark import credit
from grm_jax.evals.items import Estimate, measure_items
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.text.messages import Example


def item(name, *scores, label=0, meta=None):
    judgments = tuple(
        Judgment(
            i,
            (0, 1),
            "",
            "",
            s,
            None if s else "no_box",
            "",
            10 + i,
            -1.0,
            None if meta is None else meta[i],
        )
        for i, s in enumerate(scores)
    )
    return Sampled(Example("q", ["a", "b"], name, label=label), judgments)


RIGHT, WRONG, TIED = (9, 2), (2, 8), (5, 5)


def means(estimates):
    return {k: estimate.mean for k, estimate in estimates.items()}


def test_a_few_items_by_hand():
    results = [item("a", RIGHT, WRONG), item("b", TIED, RIGHT), item("c", None, WRONG)]
    report = measure_items(results, 2)
    assert report.strict[1].mean == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert report.credited[1].mean == pytest.approx((0.5 + 0.75 + 0) / 3)
    assert report.strict[2].mean == pytest.approx(2 / 3)  # 11 to 10, 14 to 7, 2 to 8
    assert report.credited[1].error == pytest.approx(0.2204793, abs=1e-6)  # by hand: sd / sqrt(3)
    assert (report.items, report.samples, report.invalid) == (3, 6, {"no_box": 1})
    assert report.tokens == 10.5
    assert (report.guided, report.gain) == ({}, {})


@pytest.mark.parametrize(
    ("totals", "label", "value"),
    [
        ((9, 3), 0, 1.0),
        ((9, 3), 1, 0.0),
        ((9, 9), 1, 0.5),
        ((9, 9, 9, 1), 2, 1 / 3),
        ((9, 9, 3), 2, 0.0),
        ((5, 2, 2), 0, 1.0),
    ],
)
def test_ties(totals, label, value):
    assert credit(totals, label) == value


def test_voting_sums_inside_disjoint_groups():
    report = measure_items([item("a", (9, 1), (1, 2), (1, 2), (1, 2))], 4)
    # (10, 3) right, (2, 4) wrong; all four (12, 7).
    assert means(report.strict) == means(report.credited) == {1: 0.25, 2: 0.5, 4: 1.0}


def test_guided_voting_keeps_the_better_rated_half_of_each_group():
    right, wrong = (9, 1), (1, 10)
    rated = item("a", right, wrong, wrong, right, meta=(2.0, 1.0, 3.0, -1.0))
    report = measure_items([rated], 4)
    # Of two: right, then wrong; of four 2.0 and 3.0 count: 10 to 11.
    assert means(report.guided) == {1: 0.5, 2: 0.5, 4: 0.0}
    assert means(report.strict) == {1: 0.5, 2: 0.0, 4: 0.0}


def test_unreadable_samples_give_nothing_and_alone_are_wrong():
    assert means(measure_items([item("a", None, (3, 1))], 2).strict) == {1: 0.5, 2: 1.0}


def test_refused_items_are_counted_and_neither_right_nor_wrong():
    report = measure_items([item("a", RIGHT, RIGHT), Refusal("b", "it is too long.")], 2)
    assert report.credited[2].mean == 1
    assert (report.items, report.unanswered, report.invalid) == (1, 1, {})
    with pytest.raises(ValueError, match=r"none of 1 items had an answer\. The first: it is too"):
        measure_items([Refusal("b", "it is too long.")], 2)


def test_the_gain_is_paired():
    results = [
        item("a", RIGHT, WRONG, meta=(1.0, 0.0)),  # Voting 11 to 10, guided 9 to 2
        item("b", WRONG, (6, 2), meta=(0.0, 2.0)),  # Voting 8 to 10, guided 6 to 2
        item("c", RIGHT, WRONG, meta=(0.0, 2.0)),  # the meta RM is misled
    ]
    report = measure_items(results, 2)
    assert report.credited[2].mean == pytest.approx(2 / 3)
    assert report.guided[2].mean == pytest.approx(2 / 3)
    assert report.gain[2].mean == 0
    assert report.gain[2].error == pytest.approx(1 / 3**0.5)  # 0, 1, -1


def test_an_item_that_none_rated_counts_in_what_guiding_gains():
    results = [item("a", None, None), item("b", RIGHT, WRONG, meta=(1.0, 0.0))]
    report = measure_items(results, 2)
    assert report.guided[2].count == report.gain[2].count == 2


def test_standard_error():
    estimate = Estimate.of(np.array([1.0, 0.0, 1.0, 1.0]))
    assert estimate.mean == 0.75
    assert estimate.error == pytest.approx(0.5 / 2)
    assert math.isnan(Estimate.of(np.array([1.0])).error)


@pytest.mark.parametrize(
    "row",
    [
        item("a", RIGHT, label=None),
        Sampled(Example("q", ["a"], "a", label=1), (item("a", (1,)).judgments)),
    ],
)
def test_items_without_a_best_response_are_refused(row):
    with pytest.raises(ValueError, match="accuracy needs two or more responses"):
        measure_items([row], 1)


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to judge"):
        measure_items([], 1)
