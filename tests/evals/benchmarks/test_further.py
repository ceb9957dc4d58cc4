"""JudgeBench and RM-Bench, whose rows are not at hand: hand-made ones in the hub's columns."""

import math

import pytest

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks.judge_bench import CATEGORIES
from grm_jax.evals.benchmarks.rm_bench import SUBSETS

JUDGE_BENCH, RM_BENCH = find("judgebench"), find("rm-bench")


def judged_pair(identity, source, label="A>B", model="gpt-4o-2024-05-13"):
    return {
        "pair_id": identity,
        "original_id": "1",
        "source": source,
        "question": "q",
        "response_model": model,
        "response_A": "a",
        "response_B": "b",
        "label": label,
    }


def test_judgebench_is_strict_and_weighs_categories_by_their_pairs(write_rows, cells_of):
    assert sum(CATEGORIES.values()) == 350
    sources = ("mmlu-pro-law", "livebench-reasoning", "livebench-math", "livecodebench")
    rows = [judged_pair(str(n), source, "B>A") for n, source in enumerate(sources)]
    rows.append(judged_pair("4", "mmlu-pro-physics"))
    examples = list(JUDGE_BENCH.read(write_rows("x.jsonl", *rows)))
    assert [example.label for example in examples] == [1, 1, 1, 1, 0]
    assert [example.id for example in examples] == ["0", "1", "2", "3", "4"]
    totals = ((1, 9), (5, 5), None, (1, 9), (1, 9))
    cells = cells_of(JUDGE_BENCH, zip(examples, totals, strict=True))
    assert [cells[name] for name in CATEGORIES] == [50, 0, 0, 100]
    assert cells["JudgeBench"] == pytest.approx((154 * 50 + 42 * 100) / 350)


def test_judgebench_leaves_the_other_split_and_tells_bad_rows(write_rows):
    rows = [
        judged_pair("0", "livecodebench", model="claude-3-5-sonnet-20240620"),
        judged_pair("1", "livecodebench"),
        judged_pair("2", "riddles"),
        judged_pair("3", "livecodebench", "A=B"),
    ]
    good, *bad = JUDGE_BENCH.read(write_rows("x.jsonl", *rows))
    assert good.id == "1"
    assert [item.line for item in bad if isinstance(item, BadRow)] == [3, 4]
    assert "A>B or B>A" in bad[1].reason
    with pytest.raises(ValueError, match="lacks the columns source, response_model"):
        JUDGE_BENCH.read(write_rows("y.jsonl", {"question": "q", "response_A": "a"}))


def styled(domain, identity="0", chosen=3):
    sides = {"chosen": [f"good {i}" for i in range(chosen)], "rejected": ["x", "y", "z"]}
    return {"id": identity, "prompt": "q", "domain": domain} | sides


def test_rm_bench_compares_three_styles_with_three(write_rows, cells_of, table_of):
    examples = list(RM_BENCH.read(write_rows("x.jsonl", *(styled(d, d) for d in SUBSETS))))
    # Richer styles score higher, right or wrong: all easy ones, no hard one, one normal of three.
    by_style = (2, 5, 8, 1, 5, 9)
    totals = {
        "chat": by_style,
        "code": None,
        "math": (9, 9, 9, 1, 1, 1),
        "safety-refuse": by_style,
        "safety-response": (5, 5, 5, 5, 5, 5),
    }
    judged = [(e, totals[e.meta["subset"]]) for e in examples]
    found = RM_BENCH.found(table_of(RM_BENCH, judged))
    assert RM_BENCH.label(found) == "RM-Bench (partial: 5 of 1327 rows)"
    cells = cells_of(RM_BENCH, judged)
    style, third = (100 + 100 / 3 + 0) / 3, 100 / 3
    assert cells["chat"] == pytest.approx(style)
    assert (cells["code"], cells["math"]) == (0, 100)
    assert cells["safety"] == pytest.approx(style / 2)  # one row of each half
    assert cells["easy"] == pytest.approx((100 + 0 + 100 + 50) / 4)
    assert cells["normal"] == pytest.approx((third + 0 + 100 + third / 2) / 4)
    assert cells["hard"] == pytest.approx((0 + 0 + 100 + 0) / 4)
    assert cells["RM-Bench"] == pytest.approx((cells["easy"] + cells["normal"] + cells["hard"]) / 3)


def test_rm_bench_pools_the_rows_of_safety(write_rows, cells_of):
    """Three right answers to refuse and one wrong one to respond are 75 %, not 50."""
    domains = ["chat", "code", "math", *["safety-refuse"] * 3, "safety-response"]
    rows = [styled(domain, str(n)) for n, domain in enumerate(domains)]
    right, wrong = (9, 9, 9, 1, 1, 1), (1, 1, 1, 9, 9, 9)
    judged = [
        (e, wrong if e.meta["subset"] == "safety-response" else right)
        for e in RM_BENCH.read(write_rows("x.jsonl", *rows))
    ]
    cells = cells_of(RM_BENCH, judged)
    assert cells["safety"] == 75
    assert cells["RM-Bench"] == cells["hard"] == pytest.approx((3 * 100 + 75) / 4)


def test_rm_bench_reads_all_rows_once_and_tells_bad_ones(write_rows, tmp_path, cells_of):
    write_rows("repo/data/total_dataset.json", styled("chat"), styled("chat", "1", chosen=2))
    write_rows("repo/data/chat_filtered.json", styled("chat"))
    good, bad = RM_BENCH.read(str(tmp_path / "repo"))
    assert good.meta["subset"] == "chat"
    assert "chosen and rejected need 3 each" in bad.reason
    assert math.isnan(cells_of(RM_BENCH, [(good, None)])["RM-Bench"])
