"""The report, RewardBench's own files and the comparison, from rows judged by hand."""

import json
from dataclasses import replace

import pytest

from grm_jax.evals import compare_page, comparison
from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks import rows as own_rows
from grm_jax.evals.benchmarks.reward_bench import REWARD_BENCH
from grm_jax.evals.comparison import compare
from grm_jax.evals.eval_page import write_page
from grm_jax.evals.leaderboard import write_submission
from grm_jax.evals.report import read_report, read_rows, verdict, write_report
from grm_jax.evals.run import judge_benchmark
from grm_jax.evals.scoring import Unanswered
from grm_jax.evals.votes import Vote, votes_of
from grm_jax.judging.judgment import Refusal
from tests.evals.judged import NONE, RIGHT, TIED, WRONG, Source, benchmark, example, judged, save

ROWS = [example("a"), example("b"), example("c", "B"), example("d", "B")]
HANDMADE = benchmark(ROWS)
RATED = [
    judged(ROWS[0], RIGHT, WRONG, meta=(2.0, 0.0)),  # 11 to 10; guided 9 to 2
    judged(ROWS[1], WRONG, (6, 2), meta=(-1.0, 1.0)),  # 8 to 10; guided 6 to 2
    judged(ROWS[2], WRONG, WRONG, meta=(0.0, 0.0)),
]


def evaluated(folder, rows, bench=HANDMADE, greedy=None, **settings):
    save(folder / "samples.jsonl", rows)
    if greedy is not None:
        save(folder / "greedy.jsonl", greedy)
    return write_report(bench, folder, settings={"model": folder.name, **settings}, resamples=200)


def values(entry):
    return {name: cell["value"] for name, cell in entry["cells"].items()}


def test_a_report_by_hand(tmp_path):
    greedy = [judged(row.example, RIGHT) for row in RATED]
    report = evaluated(tmp_path, [*RATED, Refusal("d", "rows:4: no row")], greedy=greedy)
    assert [vote["label"] for vote in report["votes"]] == ["Voting@1", "Voting@2", "MetaRM@2"]
    assert [values(vote) for vote in report["votes"]] == [
        {"total": 25, "A": 50, "B": 0},
        {"total": 25, "A": 50, "B": 0},
        {"total": 50, "A": 100, "B": 0},
    ]
    (gain,) = report["gains"]
    assert values(gain) == {"total": 25, "A": 50, "B": 0}
    # Of two rows one is gained and the other stays.
    assert gain["cells"]["A"]["low"] < 50 < gain["cells"]["A"]["high"] <= 100
    assert report["title"] == "Handmade (partial: 3 of 4 rows)"
    assert report["missing"] == ["B: 1 of 2"]
    assert values(report["greedy"]) == {"total": 100, "A": 100, "B": 100}
    assert report["samples"]["judgments"] == 6
    assert report["samples"]["mean_tokens"] == 10.5
    assert report["samples"]["engines"] == [{"size": None, "rows": 3}]
    assert (report["rows"], report["unread_rows"]) == (3, 1)
    assert report["unread"] == [{"id": "d", "error": "rows:4: no row"}]
    # By rating: right 2, 1; wrong 0, 0, 0, -1: all of the right ones are above.
    assert (report["meta"]["auc"], report["meta"]["mixed_items"]) == (1.0, 2)
    assert report == read_report(tmp_path)


def test_a_report_says_the_sizes_of_the_engines(tmp_path):
    sizes = [None, {"slots": 8, "places": 4}, {"slots": 8, "places": 4}, {"slots": 64, "places": 4}]
    rows = [judged(row, RIGHT) for row in ROWS]
    report = evaluated(
        tmp_path, [replace(row, engine=size) for row, size in zip(rows, sizes, strict=True)]
    )
    assert report["samples"]["engines"] == [
        {"size": None, "rows": 1},
        {"size": sizes[1], "rows": 2},
        {"size": sizes[3], "rows": 1},
    ]


def test_rows_have_the_totals_that_decide(tmp_path):
    evaluated(tmp_path, [*RATED, judged(ROWS[3], NONE, NONE)])
    assert list(read_rows(tmp_path)) == [
        {"id": name, "digest": row.digest, "subset": subset, "unit": name, "label": 0}
        | {"scores": scores, "value": [value], "verdict": verdict}
        for row, (name, subset, scores, value, verdict) in zip(
            ROWS,
            (
                ("a", "A", [9, 2], 1, "right"),
                ("b", "A", [6, 2], 1, "right"),
                ("c", "B", [2, 8], 0, "wrong"),
                ("d", "B", None, 0, "unread"),
            ),
            strict=True,
        )
    ]


def test_same_samples_same_bytes_and_no_nan(tmp_path):
    for name in "ab":
        save(tmp_path / name / "samples.jsonl", RATED[:2])
        write_report(HANDMADE, tmp_path / name, settings={}, resamples=50)
    texts = [(tmp_path / name / "report.json").read_text() for name in "ab"]
    assert texts[0] == texts[1]
    assert "NaN" not in texts[0]
    found = json.loads(texts[0])["votes"][0]["cells"]
    assert found["B"] == found["total"] == {"value": None, "low": None, "high": None}


def test_invalid_judgments_are_counted_by_reason_and_rows_without_one_apart(tmp_path):
    """What a judge wrote that cannot be read counts by the benchmark's rule; what it never wrote
    does not count, and is said wherever it is missing."""
    judge_benchmark(HANDMADE, Source(RIGHT, NONE, refuses=["c"]), 2, tmp_path)
    report = write_report(HANDMADE, tmp_path, settings={}, resamples=10)
    assert report["samples"]["invalid"] == {"no_box": 3}
    assert report["samples"]["invalid_share"] == 3 / 6
    assert report["samples"]["mean_tokens"] == 10.5
    assert report["unanswered"] == [{"id": "c", "error": "it is too long."}]
    assert (report["unanswered_rows"], report["unanswered_share"]) == (1, 1 / 4)
    assert report["title"] == "Handmade (incomplete: 1 row had no answer; partial: 3 of 4 rows)"
    assert values(report["votes"][-1])["B"] == 100  # of d alone
    assert report["lacking"] == {"total": 1, "B": 1}
    assert [row["verdict"] for row in read_rows(tmp_path)] == [
        "right",
        "right",
        "unanswered",
        "right",
    ]
    page = write_page(tmp_path).read_text()
    assert page.count(" lacks 1</span>") == 2
    assert "1 rows had no answer; they are in no number" in page


def test_where_no_row_has_an_answer_there_is_no_report(tmp_path):
    judge_benchmark(HANDMADE, Source(RIGHT, refuses="abcd"), 2, tmp_path)
    with pytest.raises(Unanswered, match=r"none of 4 rows had an answer. The first: it is too"):
        write_report(HANDMADE, tmp_path, settings={}, resamples=10)
    assert not (tmp_path / "report.json").exists()


def test_a_cell_lacks_the_rows_of_its_own_subsets():
    lacking = {"hep-go": 2, "donotanswer": 3}
    told = {
        name: REWARD_BENCH.lacking(name, lacking) for name in ("RewardBench", "Reasoning", "Chat")
    }
    assert told == {"RewardBench": 5, "Reasoning": 2, "Chat": 0}
    assert REWARD_BENCH.lacking("hep-go", lacking) == 2
    assert REWARD_BENCH.lacking("hep-java", lacking) == 0
    rm_bench = find("rm-bench")
    found = [rm_bench.lacking(cell, {"safety-refuse": 4}) for cell in ("safety", "chat", "hard")]
    assert found == [4, 0, 4]
    assert find("ppe-best-of-k").lacking("MATH, k = 8", {"MATH": 1, "GPQA": 1}) == 1
    assert find("rewardbench-2").lacking("Ties: margin", {"Ties": 1, "Math": 1}) == 1


def test_two_judges_are_compared_on_what_both_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "find", lambda name: HANDMADE)
    for name, refuses in (("first", "b"), ("second", "c")):
        judge_benchmark(HANDMADE, Source(RIGHT, refuses=[refuses]), 1, tmp_path / name)
        write_report(HANDMADE, tmp_path / name, settings={"model": name}, resamples=10)
    found = compare(tmp_path / "first", tmp_path / "second")
    assert (found.unanswered, found.flips) == (2, {})
    assert found.title == "Handmade (incomplete: 2 rows had no answer; partial: 2 of 4 rows)"
    assert found.cells["total"][:2] == (100, 100)
    page = compare_page.write_page(
        tmp_path / "page.html", found, tmp_path / "first", tmp_path / "second"
    )
    assert "2 rows are in no number here" in page.read_text()


def test_rows_of_one_id_are_told_apart(tmp_path):
    """By a file of rows whose ids repeat, with another content each."""
    rows = [{"id": "7", "prompt": f"q {i}", "responses": ["a", "b"], "label": i} for i in (0, 1)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = own_rows(str(path))
    judge_benchmark(own, Source(RIGHT), 1, tmp_path / "out")
    report = write_report(own, tmp_path / "out", settings={}, resamples=10)
    found = list(read_rows(tmp_path / "out"))
    assert [row["verdict"] for row in found] == ["right", "wrong"]
    assert len({row["unit"] for row in found}) == 2
    assert values(report["votes"][0])["accuracy"] == 50


def test_a_half_of_k_or_k_meta_is_what_counts():
    assert votes_of(6)[:4] == [Vote(1), Vote(2), Vote(4), Vote(6)]
    assert votes_of(4)[3:] == [Vote(2, True), Vote(4, True)]
    assert votes_of(8, k_meta=3)[4:] == [Vote(4, True, 3), Vote(8, True, 3)]


def test_verdicts_on_a_row():
    found = [verdict(scores, 0, 2) for scores in ((2.0, 1.0), (1.0, 1.0), (0.0, 1.0), None)]
    assert found == ["right", "tied", "wrong", "unread"]
    assert verdict((3.0,), 1, 1) is None
    assert verdict((3.0, 1.0), None, 2) is None


def test_rewardbench_gets_its_own_files(tmp_path):
    rows = [
        replace(example(str(i), subset), label=label)
        for i, (subset, label) in enumerate((("hep-go", 0), ("hep-go", 1), ("math-prm", 0)))
    ]
    scores = (RIGHT, RIGHT, TIED)
    report = evaluated(
        tmp_path, [judged(r, s) for r, s in zip(rows, scores, strict=True)], REWARD_BENCH
    )
    report["settings"]["model"] = "../models/owner/grm"
    summary, columns = write_submission(REWARD_BENCH, tmp_path, report)
    assert summary == tmp_path / "results" / "eval-set" / "owner" / "grm.json"
    named = {"model": "owner/grm", "model_type": "Generative RM", "chat_template": None}
    assert json.loads(summary.read_text()) == named | {"hep-go": 0.5, "math-prm": 0.5}
    assert columns == tmp_path / "results" / "eval-set-scores" / "owner" / "grm.json"
    found = json.loads(columns.read_text())
    assert found["id"] == ["0", "1", "2"]
    assert found["subset"] == ["hep-go", "hep-go", "math-prm"]
    assert found["results"] == [1, 0, 0.5]
    assert (found["scores_chosen"], found["scores_rejected"]) == ([9, 2, 5], [2, 9, 5])
    assert found["text_chosen"][1] == [
        {"role": "user", "content": "q 1"},
        {"role": "assistant", "content": "bad 1"},
    ]
    assert found["text_rejected"][1][1]["content"] == "good 1"
    assert {name: found[name] for name in named} == named
    report["settings"]["model"] = "../grm"  # never above its folder
    summary, _ = write_submission(REWARD_BENCH, tmp_path, report)
    assert summary == tmp_path / "results" / "eval-set" / "grm.json"


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two evaluations: of a to d, the first has a and b right, the second b and c."""
    monkeypatch.setattr(comparison, "find", lambda name: HANDMADE)
    for name, right in (("first", "ab"), ("second", "bc")):
        rows = [judged(row, RIGHT if row.id in right else WRONG, text=name) for row in ROWS]
        evaluated(tmp_path / name, rows)
    return tmp_path / "first", tmp_path / "second"


def test_a_comparison_by_hand(two):
    found = compare(*two)
    assert found.names == ("first, Voting@1", "second, Voting@1")
    assert {name: cell[:2] for name, cell in found.cells.items()} == {
        "total": (50, 50),
        "A": (100, 50),
        "B": (0, 50),
    }
    difference = found.cells["A"][2]
    # Of a and b only a changed.
    assert difference.value == -50
    assert -100 < difference.low < -50 < 0 < difference.high < 80  # of two rows nothing is sure
    assert found.flips == {("right", "wrong"): 1, ("wrong", "right"): 1}


def test_a_judge_beside_itself_has_not_changed(two):
    found = compare(two[0], two[0])
    assert found.flips == {}
    differences = [cell[2] for cell in found.cells.values()]
    # No row has changed; that of two rows none has does not say that no other would.
    assert all(d.value == 0 and d.low < -20 and d.high > 20 for d in differences)
    assert found.names[0].startswith("first, Voting@1 (")


def test_what_is_not_the_same_is_not_compared(two, tmp_path):
    first, _ = two
    evaluated(tmp_path / "fewer", [judged(row, RIGHT) for row in ROWS[:3]])
    with pytest.raises(ValueError, match=r"row 4: only the first evaluation has it"):
        compare(first, tmp_path / "fewer")
    evaluated(tmp_path / "others", [judged(row, RIGHT) for row in reversed(ROWS)])
    with pytest.raises(ValueError, match=r"4 of 4 rows of .* row 1: a of A, and d of B"):
        compare(first, tmp_path / "others")
    other = replace(HANDMADE, name="another")
    evaluated(tmp_path / "another", [judged(row, RIGHT) for row in ROWS], other)
    with pytest.raises(ValueError, match=r"on handmade and .* on another"):
        compare(first, tmp_path / "another")
    with pytest.raises(FileNotFoundError, match=r"no report\.json"):
        compare(first, tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="no report of `grm eval`"):
        compare(first, tmp_path)
