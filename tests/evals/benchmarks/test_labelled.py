"""The small world and one's own rows: accuracy with ties shared, ROC-AUC of single responses."""

import pytest

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmarks import BENCHMARKS, find, rows

WORLD, SINGLE = find("world"), find("world-single")


def test_the_world_is_whole_and_always_the_same(table_of):
    examples = list(WORLD.read(None))
    table = table_of(WORLD, [(example, example.scores) for example in examples])
    assert WORLD.label(WORLD.count(table)) == "The small world"
    assert len({example.id for example in examples}) == 2000
    cells = WORLD.cells(table)
    assert cells["accuracy"] == 100
    assert list(cells) == ["accuracy", *WORLD.full]
    short = table_of(WORLD, [(example, example.scores) for example in examples[:10]])
    assert WORLD.label(WORLD.count(short)) == "The small world (partial: 10 of 2000 rows)"


def test_the_worlds_single_responses_are_whole_too(table_of):
    examples = list(SINGLE.read(None))
    table = table_of(SINGLE, [(example, (float(example.label),)) for example in examples])
    assert SINGLE.label(SINGLE.count(table)) == "The small world, single responses"
    assert SINGLE.cells(table) == {"ROC-AUC": 100}
    with pytest.raises(ValueError, match="made, not read"):
        SINGLE.read("x.jsonl")


def several(subset, **more):
    return {"prompt": "q", "responses": ["a", "b", "c"], "label": 2, "subset": subset} | more


def test_rows_by_hand(write_rows, cells_of, table_of):
    path = write_rows(
        "x.jsonl",
        several("one", id="1"),
        several("two", id="2"),
        several("two", id="3"),
        several("two", id="4", label=None),
        {"prompt": "q", "response": "a", "label": 1, "id": "5", "subset": "two"},
        {"prompt": "q", "response": "b", "label": 0, "id": "6", "subset": "two"},
        {"prompt": "q"},
    )
    benchmark = rows(path)
    items = list(benchmark.read(None))
    examples = [item for item in items if not isinstance(item, BadRow)]
    assert [item.line for item in items if isinstance(item, BadRow)] == [4, 7]
    totals = ((1, 1, 9), (9, 1, 9), None, (3,), (7,))
    judged = list(zip(examples, totals, strict=True))
    cells = cells_of(benchmark, judged)
    assert cells == pytest.approx({"accuracy": 50, "one": 100, "two": 25, "ROC-AUC": 0})
    assert benchmark.label(benchmark.count(table_of(benchmark, judged))) == path
    assert "partial: 2 of 5" in benchmark.label(benchmark.count(table_of(benchmark, judged[:2])))


def test_rows_of_single_responses_are_measured_by_roc_auc(write_rows):
    row = {"prompt": "q", "response": "a", "label": 1}
    assert rows(write_rows("x.jsonl", row)).headline == "ROC-AUC"
    with pytest.raises(ValueError, match="no row with a label"):
        rows(write_rows("y.jsonl", {"prompt": "q", "response": "a"}))


def test_find_names_what_there_is():
    assert all(find(name).name == name for name in BENCHMARKS)
    with pytest.raises(ValueError, match="no benchmark 'rewardbench2': give one of rewardbench"):
        find("rewardbench2")
