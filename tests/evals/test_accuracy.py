"""Accuracies over items, by hand."""

import pytest

from grm_jax.evals.accuracy import Tally, accuracy
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


def test_a_few_items_by_hand():
    results = [item("a", RIGHT, WRONG), item("b", TIED, RIGHT), item("c", None, WRONG)]
    found = accuracy(results, 2)
    assert found.strict[1].mean == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.credited[1].mean == pytest.approx((0.5 + 0.75 + 0) / 3)
    assert found.strict[2].mean == pytest.approx(2 / 3)  # 11 to 10, 14 to 7, 2 to 8
    assert found.credited[1].error == pytest.approx(0.2204793, abs=1e-6)  # by hand: sd / sqrt(3)
    assert (found.items, found.samples, found.invalid) == (3, 6, {"no_box": 1})
    assert found.tokens == 10.5
    assert (found.guided, found.gain) == ({}, {})


def test_refused_items_are_counted_and_neither_right_nor_wrong():
    found = accuracy([item("a", RIGHT, RIGHT), Refusal("b", "it is too long.")], 2)
    assert found.credited[2].mean == 1
    assert (found.items, found.unanswered, found.invalid) == (1, 1, {})
    with pytest.raises(ValueError, match=r"none of 1 items had an answer\. The first: it is too"):
        accuracy([Refusal("b", "it is too long.")], 2)


def test_the_gain_is_paired():
    results = [
        item("a", RIGHT, WRONG, meta=(1.0, 0.0)),  # Voting 11 to 10, guided 9 to 2
        item("b", WRONG, (6, 2), meta=(0.0, 2.0)),  # Voting 8 to 10, guided 6 to 2
        item("c", RIGHT, WRONG, meta=(0.0, 2.0)),  # the meta RM is misled
    ]
    found = accuracy(results, 2)
    assert found.credited[2].mean == pytest.approx(2 / 3)
    assert found.guided[2].mean == pytest.approx(2 / 3)
    assert found.gain[2].mean == 0
    assert found.gain[2].error == pytest.approx(1 / 3**0.5)  # 0, 1, -1
    assert accuracy(results, 2, k_meta=2).gain[2].mean == 0
    assert accuracy(results, 2, k_meta=2).gain[2].error == 0


def test_only_powers_of_two_up_to_k():
    assert list(accuracy([item("a", *[RIGHT] * 6)], 6).strict) == [1, 2, 4]


def test_more_judgments_than_k_are_left():
    found = accuracy([item("a", WRONG, RIGHT, RIGHT)], 1)
    assert found.credited[1].mean == 0


@pytest.mark.parametrize(
    "row",
    [
        item("a", RIGHT, label=None),
        Sampled(Example("q", ["a"], "a", label=1), ()),
    ],
)
def test_items_without_a_best_response_are_refused(row):
    with pytest.raises(ValueError, match="accuracy needs two or more responses"):
        Tally(1).add(row)


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to judge"):
        accuracy([], 1)
