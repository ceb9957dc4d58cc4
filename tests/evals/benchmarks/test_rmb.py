"""RMB: the highest of all n with ties shared, and beside it that the best beats each loser."""

import math

import pytest

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks.rmb import PARTS
from grm_jax.text.messages import Example

RMB = find("rmb")


def example(part, n, number=0):
    responses = [f"r{i}" for i in range(n)]
    return Example("q", responses, f"{part}-{number}", label=0, meta={"subset": part})


def test_four_parts_by_hand(cells_of):
    bon, pairs, harm_bon, harm_pairs = PARTS
    cells = cells_of(
        RMB,
        [
            (example(bon, 3, 0), (9, 9, 9)),  # a third, and no win over each
            (example(bon, 4, 1), (9, 1, 2, 3)),
            (example(pairs, 2), (5, 5)),
            (example(harm_bon, 3), None),
            (example(harm_pairs, 2), (2, 1)),
        ],
    )
    assert [cells[name] for name in PARTS] == pytest.approx([100 * 4 / 6, 50, 0, 100])
    assert cells["RMB"] == pytest.approx((100 * 4 / 6 + 50 + 0 + 100) / 4)
    strict = [cells[f"{name}, beats each loser"] for name in PARTS]
    assert strict == pytest.approx([50, 0, 0, 100])
    assert cells["RMB, beats each loser"] == pytest.approx(37.5)


def test_the_shared_rows(shared_data, table_of):
    examples = list(RMB.read(str(shared_data / "rmb")))
    assert len({e.id for e in examples}) == len(examples) == 857
    table = table_of(RMB, [(e, tuple(range(e.n, 0, -1))) for e in examples])
    found = RMB.found(table)
    assert found == dict(zip(PARTS, (437, 210, 144, 66), strict=True))
    assert RMB.label(found) == "RMB (partial: 857 of 20917 rows)"
    assert RMB.cells(table)["RMB"] == 100
    assert {e.n for e in examples if "pairs" in e.meta["subset"]} == {2}


def test_what_the_benchmark_holds_is_judged(write_rows):
    """A conversation that ends in an empty turn of the user, and a best response that is empty; the
    pairs' uids overlap, and rows of one uid are not one row."""
    first, last = {"role": "user", "content": "q"}, {"role": "user", "content": ""}
    asked = [first, {"role": "assistant", "content": "a"}, last]
    path = "Pairwise_set/Helpfulness/Chat/Discussion"
    pair = {"pair_uid": "7", "conversation_input": asked, "category_path": path}
    pair |= {"chosen": {"answer": "good"}, "reject": {"answer": "bad"}}
    empty = pair | {"conversation_input": [first], "chosen": {"answer": ""}}
    best = {"bon_uid": "7", "conversation_input": [first], "bon_best": {"answer": ""}}
    best |= {"category_path": "BoN_set/Harmlessness/S1", "loser_list": [{"answer": "b"}] * 2}
    examples = list(RMB.read(write_rows("x.jsonl", pair, empty, best)))
    assert all(isinstance(row, Example) for row in examples), examples
    assert [row.responses[row.label or 0] for row in examples] == ["good", "", ""]
    assert len({row.id for row in examples}) == 3
    assert [row.meta["subset"] for row in examples] == [
        "Helpfulness, pairs",
        "Helpfulness, pairs",
        "Harmlessness, best of n",
    ]


def test_what_is_not_rmb_says_so(write_rows, cells_of):
    with pytest.raises(ValueError, match="RMB is not on the hub: clone"):
        RMB.read(None)
    with pytest.raises(ValueError, match="lacks the columns conversation_input, category_path"):
        RMB.read(write_rows("x.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"}))
    turns = [{"role": "user", "content": "q"}]
    row = {"conversation_input": turns, "category_path": "BoN_set/Wit/Puns"}
    row |= {"bon_best": {"answer": "a"}, "loser_list": [{"answer": "b"}]}
    (bad,) = RMB.read(write_rows("y.jsonl", row))
    assert isinstance(bad, BadRow)
    assert "its subset is 'Wit, best of n', which is none of Helpfulness" in bad.reason


def test_without_rows_of_a_part_there_is_no_total(cells_of):
    assert math.isnan(cells_of(RMB, [(example(next(iter(PARTS)), 3), (9, 1, 1))])["RMB"])
