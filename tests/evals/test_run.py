"""Judging a benchmark: every row counts once, whatever happens; nothing secret is written."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from grm_jax.data.sources import BadRow
from grm_jax.evals.eval_page import write_page
from grm_jax.evals.report import write_report
from grm_jax.evals.run import Greedy, judge_benchmark, shares
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.samples import read_samples
from tests.evals.judged import RIGHT, WRONG, Source, benchmark, example

ROWS = [
    example("1"),
    example("2", "B", unit="two"),
    BadRow("some/rows.jsonl", 3, "the row has no responses"),
    *(example(str(i), "AAB"[i % 3]) for i in range(4, 12)),
]


def ids(path):
    return [r.id if isinstance(r, Refusal) else r.example.id for r in read_samples(path)]


def test_every_row_has_its_line_in_the_benchmarks_order(tmp_path):
    path = judge_benchmark(benchmark(ROWS), Source(RIGHT, WRONG), 2, tmp_path)
    assert path == tmp_path / "samples.jsonl"
    assert ids(path) == ["1", "2", "rows.jsonl:3", *map(str, range(4, 12))]
    rows = [r for r in read_samples(path) if isinstance(r, Sampled)]
    assert all([j.scores for j in r.judgments] == [RIGHT, WRONG] for r in rows)
    assert rows[1].example.meta == {"subset": "B", "unit": "two"}


@pytest.mark.parametrize(
    ("data", "limit", "share"),
    [(None, None, "/10 "), ("mine", None, " 1item "), ("mine", 4, "/4 ")],
)
def test_progress_is_a_share_of_rows_that_are_there(
    data, limit, share, tmp_path, monkeypatch, capsys
):
    """A file of one's own has fewer or more rows than the official one."""
    monkeypatch.setattr("grm_jax.progress.EVERY", 0.0)
    judge_benchmark(benchmark(ROWS), Source(RIGHT), 1, tmp_path, data=data, limit=limit)
    assert share in capsys.readouterr().err.splitlines()[0]


def test_what_the_judge_refuses_says_which_row_it_is_and_is_no_judgment(tmp_path):
    path = judge_benchmark(benchmark(ROWS), Source(RIGHT, refuses=["5"]), 3, tmp_path)
    bad, refused = (row for row in read_samples(path) if isinstance(row, Refusal))
    known = {"subset": "B", "unit": "5", "label": 0, "digest": example("5", "B").digest}
    assert refused == Refusal("5", "it is too long.", row=known)
    assert bad == Refusal("rows.jsonl:3", "some/rows.jsonl:3: the row has no responses")


def test_a_passing_reason_stays_passing(tmp_path):
    class Down(Source):
        def _batch(self, batch, k):
            return (Refusal(row.id, "no connection", passing=True) for row in batch)

    path = judge_benchmark(benchmark(ROWS[:2]), Down(), 1, tmp_path)
    for line, subset in zip(path.read_text().splitlines(), "AB", strict=True):
        found = json.loads(line)
        assert found["passing"] is True
        assert found["row"]["subset"] == subset
    up = Source(RIGHT)
    judge_benchmark(benchmark(ROWS[:2]), up, 1, tmp_path)  # the same command asks again
    assert sorted(up.asked) == ["1", "2"]
    assert all(isinstance(row, Sampled) for row in read_samples(path))


def test_what_the_official_script_leaves_out_is_not_judged(tmp_path):
    """For the kind of judge that the script is for."""
    rows = [example("1"), example("2")]
    short = replace(
        benchmark(rows), leaves_out=lambda row, scalar: "" if scalar or row.id == "1" else "long"
    )
    source = Source(RIGHT)
    path = judge_benchmark(short, source, 1, tmp_path / "writes")
    assert source.asked == ["1"]
    left_out = next(r for r in read_samples(path) if isinstance(r, Refusal))
    assert left_out.row is not None
    assert (left_out.error, left_out.row["left_out"]) == ("long", True)
    report = write_report(short, tmp_path / "writes", settings={}, resamples=10)
    assert report["title"] == "Handmade"  # it is whole without them
    assert (report["rows"], report["left_out"], report["why_left_out"]) == (1, {"A": 1}, "long")
    judge_benchmark(short, scalar := Source(RIGHT), 1, tmp_path / "scores", scalar=True)
    assert sorted(scalar.asked) == ["1", "2"]


@pytest.mark.parametrize("dies_after", [0, 1, 4, 7])
def test_stopped_anywhere_it_ends_with_the_same_bytes(tmp_path, dies_after):
    whole = judge_benchmark(benchmark(ROWS), Source(RIGHT, refuses=["5"]), 2, tmp_path / "whole")
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        judge_benchmark(
            benchmark(ROWS), Source(RIGHT, refuses=["5"], dies_after=dies_after), 2, folder
        )
    last = Source(RIGHT, refuses=["5"])
    path = judge_benchmark(benchmark(ROWS), last, 2, folder)
    assert path.read_bytes() == whole.read_bytes()
    assert len(last.asked) == 10 - dies_after
    idle = Source(RIGHT)
    assert judge_benchmark(benchmark(ROWS), idle, 2, folder) == path
    assert idle.asked == []


def judge_again(folder, rows, **options):
    source = Source(WRONG)
    path = judge_benchmark(benchmark(rows, **options), source, 2, folder)
    return source.asked, [r for r in read_samples(path) if isinstance(r, Sampled)]


@pytest.mark.parametrize("secret", [False, True])
def test_only_what_has_changed_in_the_data_is_judged_anew(secret, tmp_path):
    rows = [example(str(i)) for i in range(6)]
    judge_benchmark(benchmark(rows, secret=secret), Source(RIGHT), 2, tmp_path)
    mended = [replace(row, label=1) for row in rows]
    asked, found = judge_again(tmp_path, mended, secret=secret)
    assert asked == []
    assert [(r.example.label, r.judgments[0].scores) for r in found] == [(1, RIGHT)] * 6
    mended[4] = replace(rows[4], responses=rows[4].responses[::-1])
    asked, found = judge_again(tmp_path, mended, secret=secret)
    assert asked == ["4"]
    assert [r.judgments[0].scores for r in found] == [RIGHT] * 4 + [WRONG, RIGHT]
    assert [r.digest for r in found] == [row.digest for row in mended]
    assert judge_again(tmp_path, mended, secret=secret)[0] == []


def test_the_report_names_the_data_that_it_is_of(tmp_path):
    rows = [example(str(i)) for i in range(3)]
    told = []
    for data in (rows, rows, [rows[0], rows[1], replace(rows[2], label=1)], rows[:2]):
        judge_benchmark(benchmark(data), Source(RIGHT), 1, tmp_path)
        told.append(write_report(benchmark(data), tmp_path, settings={}, resamples=5)["data"])
    assert told[0] == told[1]
    assert len(set(told)) == 3


def test_a_limit_takes_evenly_of_each_subset_and_within_it(tmp_path):
    rows = [example(f"{s}{i}", s) for s, n in (("A", 10), ("B", 2), ("C", 6)) for i in range(n)]
    source = Source(RIGHT)
    judge_benchmark(benchmark(rows), source, 1, tmp_path, limit=9)
    assert Counter(name[0] for name in source.asked) == {"A": 4, "B": 2, "C": 3}
    assert sorted(n for n in source.asked if n[0] == "A") == ["A2", "A4", "A7", "A9"]
    with pytest.raises(ValueError, match="limit is 0"):
        judge_benchmark(benchmark(rows), source, 1, tmp_path / "none", limit=0)


@pytest.mark.parametrize(
    ("limit", "taken"),
    [(99, (10, 2, 6)), (2, (1, 1, 0)), (9, (4, 2, 3)), (17, (9, 2, 6))],
)
def test_shares_are_as_even_as_the_sizes_allow(limit, taken):
    assert tuple(shares({"A": 10, "B": 2, "C": 6}, limit).values()) == taken


def test_nothing_of_a_secret_benchmark_is_written(tmp_path):
    """Not by the samples, the report, the rows or the page."""
    rows = [
        example("1", text="hidden"),
        replace(example("2", unit="u"), reference="hidden", principles="hidden"),
        example("3"),
        BadRow("zip/rows.jsonl", 4, "hidden is no label", "4"),
    ]
    rows[0] = replace(rows[0], meta={**rows[0].meta, "more": "hidden"})
    secret = benchmark(rows, secret=True)

    class Tells(Source):
        def _batch(self, batch, k):
            for result in super()._batch(batch, k):
                if isinstance(result, Refusal):
                    yield Refusal(result.id, "hidden")
                else:
                    told = {"text": "hidden", "critique": "hidden", "principles": "hidden"}
                    judgments = tuple(replace(j, **told) for j in result.judgments)
                    yield Sampled(result.example, judgments)

    judge_benchmark(secret, Tells(RIGHT, refuses=["3"]), 2, tmp_path)
    report = write_report(secret, tmp_path, settings={}, resamples=10)
    write_page(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert "hidden" not in text
        assert not any(f"good {i}" in text for i in (1, 2, 3))
    assert report["votes"][-1]["cells"]["A"]["value"] == 100
    assert report["unanswered"] == [{"id": "3", "error": "(withheld)"}]
    assert report["unread"] == [{"id": "4", "error": "rows.jsonl:4"}]


MEASURE = """
import sys
from dataclasses import replace
from pathlib import Path
from pathlib import Path

from grm_jax.evals.eval_page import write_page
from grm_jax.evals.report import write_report
from grm_jax.evals.run import judge_benchmark
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.samples import read_samples
from tests.evals.judged import RIGHT, WRONG, Source, benchmark, example


class Long(Source):
    def _batch(self, batch, k):
        for result in super()._batch(batch, k):
            judgments = tuple(replace(j, text="word " * 400 + j.text) for j in result.judgments)
            yield Sampled(result.example, judgments)


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


for count in (200, 2000):
    rows = replace(
        benchmark([example("0")]), read=lambda _: (example(str(i)) for i in range(count))
    )
    folder = Path(sys.argv[1]) / str(count)
    path = judge_benchmark(rows, Long(RIGHT, WRONG), 8, folder)
    write_report(rows, folder, settings={}, resamples=5)
    write_page(folder)
    print(peak())
held = list(read_samples(path))
print(peak())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """From judging to the page, 2,000 rows of k = 8 take as much as 200, but for some numbers."""
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    few, many, held = map(int, found.stdout.split())
    texts = 2000 * 8 * len("word " * 400)  # 32 MB
    assert many - few < texts / 4
    assert held - few > texts  # the measure sees what is held
    assert json.loads((tmp_path / "2000" / "report.json").read_text())["rows"] == 2000


def test_greedy_is_without_chance_whatever_the_judges_strategy():
    class Judge:
        def sample_all(self, examples, k, strategy):
            return iter([(list(examples), k, strategy.temperature)])

    assert list(Greedy(Judge()).sample_all(["a"], 1)) == [(["a"], 1, 0.0)]  # type: ignore[arg-type]
