"""Votes from one pool, by hand and without bias; intervals with the law and coverage they claim."""

from itertools import combinations, permutations
from math import isnan

import numpy as np
import pytest

from grm_jax.evals.benchmark import Table, credit
from grm_jax.evals.bootstrap import bootstrap, differences, intervals
from grm_jax.evals.scoring import Unanswered, cells, score
from grm_jax.evals.votes import CHOICES, Vote, choices, totals
from grm_jax.judging.judgment import Refusal
from tests.evals.judged import NONE, RIGHT, TIED, WRONG, benchmark, example, judged, save

AB = benchmark([example("a", "A"), example("b", "B")])


def table(values, subset=None, unit=None):
    n = len(values)
    return Table(
        np.array(subset or ["A"] * n),
        np.array(unit or [str(i) for i in range(n)]),
        np.array(values, float)[:, None],
        extremes=(np.ones((n, 1)), np.zeros((n, 1))),
    )


@pytest.mark.parametrize(("pool", "k"), [(8, 1), (8, 2), (8, 3), (8, 8), (32, 1), (32, 16), (1, 1)])
def test_choices_are_disjoint_groups_of_whole_permutations(pool, k):
    groups = choices(pool, k)
    each = pool // k
    assert len(groups) == each if k in (1, pool) else len(groups) >= CHOICES
    for start in range(0, len(groups), each):
        members = groups[start : start + each].ravel().tolist()
        assert len(set(members)) == len(members)
        assert set(members) <= set(range(pool))
    if k == 1:
        assert groups.ravel().tolist() == list(range(pool))
    assert np.array_equal(groups, choices(pool, k))


def test_more_samples_than_the_pool_has_are_refused():
    with pytest.raises(ValueError, match="k is 9, but there are only 8"):
        choices(8, 9)


def test_subsampling_is_unbiased(tmp_path):
    """Over every order in which a pool could have been drawn, the mean over the choices is that
    over all groups of k."""
    pool = [(9, 2), (1, 8), (3, 9), (6, 5)]
    rows = [
        judged(example(str(i)), *order, meta=[s[0] - s[1] for s in order])
        for i, order in enumerate(permutations(pool))
    ]
    path = save(tmp_path / "samples.jsonl", rows)
    votes = [Vote(1), Vote(2), Vote(3), Vote(2, guided=True)]
    found = score(AB, path, votes).tables()
    for vote in votes[:3]:
        groups = [np.sum(group, 0) for group in combinations(pool, vote.k)]
        exact = np.mean([credit(tuple(total), 0) for total in groups])
        assert cells(AB, found[vote])["A"] == pytest.approx(100 * exact)
    best = [max(group, key=lambda s: s[0] - s[1]) for group in combinations(pool, 2)]
    exact = np.mean([credit(score, 0) for score in best])
    assert cells(AB, found[votes[3]])["A"] == pytest.approx(100 * exact)


def test_votes_by_hand(tmp_path):
    rows = [
        judged(example("a"), RIGHT, WRONG, meta=(0.0, 2.0)),  # 11 to 10; guided 2 to 8
        judged(example("b"), WRONG, NONE, meta=(1.0, None)),
        judged(example("c"), NONE, NONE),
        judged(example("d", "B"), TIED, TIED, meta=(0.0, 0.0)),
        Refusal("e", "no row"),
    ]
    path = save(tmp_path / "samples.jsonl", rows)
    votes = [Vote(1), Vote(2), Vote(2, guided=True), Vote(2, guided=True, k_meta=2)]
    found = score(AB, path, votes).tables()
    (both,) = found[Vote(2)]
    assert both.values.ravel().tolist() == [1, 0, 0, 0.5]
    assert both.subset.tolist() == ["A", "A", "A", "B"]
    assert both.unit.tolist() == ["a", "b", "c", "d"]
    assert [t.values.ravel().tolist() for t in found[Vote(1)]] == [[1, 0, 0, 0.5], [0, 0, 0, 0.5]]
    assert found[votes[2]][0].values.ravel().tolist() == [0, 0, 0, 0.5]
    assert found[votes[3]][0].values.ravel().tolist() == [1, 0, 0, 0.5]
    assert cells(AB, found[Vote(2)]) == pytest.approx({"total": 125 / 3, "A": 100 / 3, "B": 50})


def test_totals_are_means_over_what_was_counted():
    """A rule that compares rows meets the same scale in all of them, whatever could be read."""
    row = judged(example("a"), (9, 2), NONE, (6, 5), NONE, meta=(0.0, None, 1.0, None))
    groups = np.array([[0, 2], [0, 1], [1, 3]])
    assert totals(row, Vote(2), groups) == [(7.5, 3.5), (9, 2), None]
    assert totals(row, Vote(2, guided=True), groups) == [(6, 5), (9, 2), None]


def test_what_cannot_be_scored_is_said(tmp_path):
    plain = save(tmp_path / "plain.jsonl", [judged(example("a"), RIGHT, WRONG)])
    with pytest.raises(ValueError, match="--meta-rm"):
        score(AB, plain, [Vote(2, guided=True)]).tables_of(Vote(2, guided=True))
    with pytest.raises(ValueError, match="only 2 samples"):
        score(AB, plain, [Vote(4)])
    uneven = [judged(example("a"), RIGHT), judged(example("b"), RIGHT, WRONG)]
    with pytest.raises(ValueError, match="b has 2 judgments, and the rows before it 1"):
        score(AB, save(tmp_path / "uneven.jsonl", uneven), [Vote(1)])
    with pytest.raises(ValueError, match="nothing to score"):
        score(AB, save(tmp_path / "none.jsonl", [Refusal("a", "no row")]), [Vote(1)]).tables()


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": 4, "guided": True, "k_meta": 5}, {"k": 4, "k_meta": 2}]
)
def test_votes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="is"):
        Vote(**wrong)


def test_rows_without_an_answer_are_in_no_table(tmp_path):
    """Neither right, wrong nor tied; where there is nothing else, the judge's words are said."""
    down = Refusal("b", "the server is down.", passing=True, row={"subset": "A"})
    left_out = Refusal("c", "it is long.", row={"subset": "B", "left_out": True})
    path = save(tmp_path / "some.jsonl", [down, judged(example("a"), RIGHT), left_out])
    (found,) = score(AB, path, [Vote(1)]).tables_of(Vote(1))
    assert found.values.ravel().tolist() == [1]
    assert found.line is not None
    assert found.line.tolist() == [1]
    path = save(tmp_path / "none.jsonl", [down, down])
    with pytest.raises(
        Unanswered, match=r"none of 2 rows had an answer\. The first: the server is"
    ):
        score(AB, path, [Vote(1)]).tables()


def test_a_table_knows_the_best_and_the_worst_of_its_rows(tmp_path):
    path = save(tmp_path / "some.jsonl", [judged(example("a"), TIED), judged(example("b"), WRONG)])
    (found,) = score(AB, path, [Vote(1)]).tables_of(Vote(1))
    assert found.extremes is not None
    assert [x.ravel().tolist() for x in found.extremes] == [[1, 1], [0, 0]]
    bare = Table(found.subset, found.unit, found.values)
    with pytest.raises(ValueError, match="no extremes"):
        intervals(AB, [bare])


def test_a_difference_is_of_the_rows_that_both_judged(tmp_path):
    down = Refusal("x", "down", passing=True, row={"subset": "A"})
    rows = [example(name) for name in "wxyz"]
    a = [judged(rows[0], RIGHT), down, judged(rows[2], RIGHT), judged(rows[3], WRONG)]
    b = [judged(rows[0], RIGHT), judged(rows[1], WRONG), judged(rows[2], WRONG), down]
    found = [
        score(AB, save(tmp_path / name, judgments), [Vote(1)]).tables_of(Vote(1))
        for name, judgments in (("a", a), ("b", b))
    ]
    assert differences(AB, *found)["A"].value == -50  # w and y: 100 % and 50 %
    with pytest.raises(ValueError, match="no row was judged by both"):
        differences(
            AB,
            score(AB, save(tmp_path / "c", [a[0], down]), [Vote(1)]).tables_of(Vote(1)),
            score(AB, save(tmp_path / "d", [down, b[1]]), [Vote(1)]).tables_of(Vote(1)),
        )


def test_the_law_of_two_rows():
    """0, 1/2 and 1 with the chances 1/4, 1/2 and 1/4: drawn from a right one, a wrong one, and the
    two extremes."""
    drawn = bootstrap(AB, [table([0, 1])], resamples=2000)["A"]
    shares = [np.mean(drawn == value) for value in (0, 50, 100)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.035)  # three deviations
    found = intervals(AB, [table([0, 1])])["A"]
    assert found.value == 50
    assert (found.low, found.high) == pytest.approx((2.5, 97.5), abs=0.5)


def test_rows_that_agree_are_drawn_with_others_that_do_not():
    """Of two right rows and the two extremes a quarter is wrong: 1, 1/2 and 0 with the chances
    9/16, 6/16 and 1/16."""
    drawn = bootstrap(AB, [table([1, 1])], resamples=2000)["A"]
    shares = [np.mean(drawn == value) for value in (100, 50, 0)]
    assert shares == pytest.approx([9 / 16, 6 / 16, 1 / 16], abs=0.035)  # three deviations
    turned = bootstrap(AB, [table([1, 1])], resamples=2000, turned=True)["A"]
    # The extreme that was perfect is the wrong one: each is drawn in one place or the other.
    assert np.mean(turned - drawn == 0) < 0.7
    assert np.mean(turned) == pytest.approx(np.mean(drawn), abs=3)


def test_rows_are_drawn_within_their_subset():
    seen = set()

    def count(t):
        seen.add((len(t.of("A")), len(t.of("B"))))
        return {"A": 0.0}

    counting = type(AB)(**{**AB.__dict__, "cells": count})
    bootstrap(counting, [table([0, 0, 1, 1, 1], ["A", "A", "B", "B", "B"])], resamples=20)
    assert seen == {(2, 3)}


def test_rows_of_a_unit_are_drawn_together():
    values, units = [1, 1, 0, 0, 0], ["x", "x", "y", "y", "y"]
    drawn = bootstrap(AB, [table(values, unit=units)], resamples=500)["A"]
    # Two of x's two rows and y's three, all the rows of each right or wrong together.
    assert {round(value) for value in drawn.tolist()} == {0, 40, 50, 60, 100}


def test_a_rule_sees_a_unit_drawn_twice_as_two():
    seen = set()

    def count(t):
        seen.add((len(t.values), len(set(t.unit.tolist()))))
        return {"A": 0.0}

    units = ["x", "x", "y", "y"]
    counting = type(AB)(**{**AB.__dict__, "cells": count})
    bootstrap(counting, [table([1, 1, 0, 0], unit=units)], resamples=20)
    assert seen == {(4, 2)}


def test_of_is_the_same_on_redrawn_rows():
    """What the bootstrap hands to a benchmark finds the rows of subsets as any Table does."""
    subset, values = ["B", "A", "B", "C", "A"], [1, 2, 3, 4, 5]

    def check(t):
        for names in (("A",), ("B", "C"), ("D",), ("C", "D")):
            plain = Table(t.subset, t.unit, t.values).of(*names)
            assert sorted(t.of(*names).ravel()) == sorted(plain.ravel())
        assert t.of("C").ravel().tolist() in ([4], [1], [0])  # its row, or an extreme
        return {"A": 0.0}

    bootstrap(type(AB)(**{**AB.__dict__, "cells": check}), [table(values, subset)], resamples=20)


def test_a_difference_is_of_the_same_redrawn_rows():
    rng = np.random.default_rng(0)
    values = rng.random(50)
    a, b = [table(values)], [table(values + 0.1)]
    assert intervals(AB, a)["A"].high - intervals(AB, a)["A"].low > 10
    found = differences(AB, a, b)["A"]
    assert found.value == pytest.approx(10)
    # Narrower than of rows that are not the same, for all differ by as much.
    assert 0 < found.low < 10 < found.high < 17
    with pytest.raises(ValueError, match="units of their rows"):
        differences(AB, a, [table(values, unit=["x"] * 50)])
    with pytest.raises(ValueError, match="subsets of their rows"):
        differences(AB, a, [table(values[:20])])


def test_a_subset_without_rows_has_no_interval():
    found = intervals(AB, [table([0, 1, 1])], resamples=50)
    assert found["A"].low < found["A"].high
    assert isnan(found["B"].value)
    assert isnan(found["B"].low)


def test_the_interval_lies_around_the_mean_over_all_choices():
    """Though only some of the choices are redrawn."""
    rng = np.random.default_rng(0)
    chosen = [table(np.full(40, 0.5) + 0.1 * i + rng.normal(0, 0.1, 40)) for i in range(8)]
    found = intervals(AB, chosen)["A"]
    assert found.value == pytest.approx(85, abs=2)
    assert found.low < found.value < found.high
