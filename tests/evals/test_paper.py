"""The paper's arithmetic: its printed totals follow from its cells by our own aggregation."""

from importlib.resources import files

import pytest

from grm_jax.evals import paper
from grm_jax.evals.benchmarks import PAPER, ppe, reward_bench, rmb

# The tables that print a total beside the cells that it is made of, and how many such rows.
TOTALS = {
    ("table02_main", "Overall"): 17,
    ("table06_scaling_detail", "Overall"): 14,
    ("table07_ablation_detail", "Overall"): 14,
    ("table08_rewardbench", "RewardBench"): 18,
    ("table09_ppe_correctness", "PPE Correctness"): 15,
    ("table10_rmb", "RMB"): 14,
    ("table15_generalization", "RewardBench"): 4,
}

# How each of the paper's totals follows from other cells of its row.
TOTAL_OF = {
    "Overall": paper.overall,
    "RewardBench": reward_bench.total,
    "PPE Correctness": ppe.total,
    "RMB": rmb.total,
}

# (table, setting, method) of the rows that are no check: their total is not what their cells give,
# or they repeat another row.
AT_ODDS = {
    ("table08_rewardbench", "greedy", "DeepSeek-BTRM-27B"),  # swapped with PairRM's cells
    ("table08_rewardbench", "greedy", "DeepSeek-PairRM-27B"),
    ("table08_rewardbench", "greedy", "CLoud-Gemma-2-27B"),  # its cells are the judge's
    ("table07_ablation_detail", "greedy", "RFT w/o Hinted Sampling (1)"),
    ("table15_generalization", "", "DeepSeek-GRM-27B w/o MATH"),
    ("table10_rmb", "voting@8", "LLM-as-a-Judge w/ TokenProb"),  # the judge's row again
}


def at_odds(name, row):
    """Whether the row of a table is one in which the paper disagrees with itself."""
    method = row.get("method", row.get("model"))
    return (name, row.get("setting", ""), method) in AT_ODDS


@pytest.mark.parametrize(("name", "total"), TOTALS)
def test_every_total_follows_from_its_cells(name, total):
    rows = paper.table(name)
    assert len(rows) == TOTALS[name, total]
    checked = [row for row in rows if not at_odds(name, row)]
    for row in checked:
        assert TOTAL_OF[total](row) == pytest.approx(row[total], abs=0.06), row
    listed = [odd for odd in AT_ODDS if odd[0] == name]
    assert len(rows) - len(checked) == len(listed)


def test_the_rows_left_out_are_at_odds_with_themselves():
    differ = {
        (name, row.get("setting", ""), row.get("method", row.get("model")))
        for name, total in TOTALS
        for row in paper.table(name)
        if abs(TOTAL_OF[total](row) - row[total]) > 0.06
    }
    copied = ("table10_rmb", "voting@8", "LLM-as-a-Judge w/ TokenProb")
    assert differ | {copied} == AT_ODDS
    judge, copy = (
        {key: value for key, value in row.items() if key != "method"}
        for row in paper.table("table10_rmb")
        if row["setting"] == "voting@8" and row["method"].startswith("LLM-as-a-Judge")
    )
    assert judge == copy


def test_btrm_and_pairrm_have_each_others_sections():
    rows = {row["method"]: row for row in paper.table("table08_rewardbench")}
    bt, pair = rows["DeepSeek-BTRM-27B"], rows["DeepSeek-PairRM-27B"]
    total = TOTAL_OF["RewardBench"]
    assert total(bt) == pytest.approx(pair["RewardBench"], abs=0.06)
    assert total(pair) == pytest.approx(bt["RewardBench"], abs=0.06)


def test_overall_is_of_the_four_headlines():
    assert [benchmark.headline for benchmark in PAPER] == [
        "RewardBench",
        "PPE Preference",
        "PPE Correctness",
        "RMB",
    ]
    cells = {"RewardBench": 86.0, "PPE Preference": 64.7, "PPE Correctness": 59.8, "RMB": 69.0}
    assert paper.overall(cells | {"Prior Sets": 0.0}) == pytest.approx(69.875)


def test_a_table_that_is_not_there_names_those_that_are():
    with pytest.raises(ValueError, match=r"table99 is not here: give one of figure4_.*table01_"):
        paper.table("table99")


def test_the_packages_tables_are_the_shared_ones(shared_data):
    shared = shared_data.parent / "paper" / "tables"
    if not shared.is_dir():
        pytest.skip(f"needs the paper's tables, which are not at {shared}")
    here = {file.name: file.read_bytes() for file in (files("grm_jax") / "assets/paper").iterdir()}
    assert here == {name: (shared / name).read_bytes() for name in here}
    assert {f"{name}.csv" for name, _ in TOTALS} <= set(here)
