"""Two evaluations of the same rows: the paired difference of every cell, and flipped verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks import rows as own_rows
from grm_jax.evals.bootstrap import differences, shared
from grm_jax.evals.eval_page import judge_name
from grm_jax.evals.intervals import Interval
from grm_jax.evals.report import SAMPLES, read_report, read_rows
from grm_jax.evals.scoring import cells, score
from grm_jax.evals.votes import Vote

Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Two reports on the same rows, by the last vote of each.

    Attributes:
        title: the benchmark's, with "partial" if it is.
        names: names of the two judges.
        cells: by cell, (a's value, b's value, b - a with its paired interval).
        flips: (a's verdict, b's verdict) -> the number of rows, if the two differ.
        unanswered: rows to which one of the two had no answer; no number includes them.
        secret: whether the texts of rows must not be shown.
    """

    title: str
    names: tuple[str, str]
    cells: dict[str, tuple[float, float, Interval]]
    flips: dict[tuple[str, str], int]
    unanswered: int
    secret: bool


def compare(a: Path, b: Path) -> Comparison:
    """Compares the reports in two folders.

    Raises:
        FileNotFoundError, ValueError: a report is missing, or the two are of different benchmarks
            or rows.
    """
    reports = read_report(a), read_report(b)
    names = [report["benchmark"] for report in reports]
    if names[0] != names[1]:
        raise ValueError(
            f"{a} is an evaluation on {names[0]} and {b} on {names[1]}: only evaluations of the "
            "same rows can be compared."
        )
    flips: Counter[tuple[str, str]] = Counter()
    unanswered = 0
    for pair in pairs(a, b):
        first, second = (row["verdict"] for row in pair)
        if "unanswered" in (first, second):
            unanswered += 1
        elif first != second:
            flips[first, second] += 1
    benchmark = open_benchmark(reports[0])
    votes = [Vote(**report["verdict"]) for report in reports]
    before, after = shared(
        *(
            score(benchmark, folder / SAMPLES, [vote], scalar=report["scalar"]).tables_of(vote)
            for folder, report, vote in zip((a, b), reports, votes, strict=True)
        )
    )
    ours, theirs = cells(benchmark, before), cells(benchmark, after)
    gained = differences(benchmark, before, after)
    rows = Counter(benchmark.count(before[0])) + Counter(reports[0].get("left_out"))
    return Comparison(
        title=benchmark.label(rows, unanswered),
        names=_names(reports, (a, b)),
        cells={name: (ours[name], theirs[name], gained[name]) for name in gained},
        flips=dict(flips.most_common()),
        unanswered=unanswered,
        secret=reports[0]["secret"],
    )


def pairs(a: Path, b: Path) -> Iterator[tuple[Row, Row]]:
    """The lines of both `rows.jsonl`.

    Raises:
        ValueError: they are not of the same rows in the same order, with the same labels.
    """
    number, differ, where = 0, 0, ""
    for number, (first, second) in enumerate(zip_longest(read_rows(a), read_rows(b)), 1):
        if why := _differ(first, second):
            differ += 1
            where = where or f"row {number}: {why}"
        elif not differ:
            yield first, second
    if differ:
        raise ValueError(
            f"{differ} of {number} rows of {a} and {b} differ, the first one is {where}. A "
            "verdict on one says nothing of the other: evaluate both on the same rows."
        )


def _differ(a: Row | None, b: Row | None) -> str:
    """Why two lines are not of the same row; empty if they are."""
    if a is None or b is None:
        return f"only {'the second' if a is None else 'the first'} evaluation has it"
    if (a["id"], a["subset"]) != (b["id"], b["subset"]):
        return f"{a['id']} of {a['subset']}, and {b['id']} of {b['subset']}"
    # Evaluations of earlier versions have no digest.
    if a.get("digest", b.get("digest")) != b.get("digest", a.get("digest")):
        return f"{a['id']} has another prompt, other responses or another reference"
    if a["label"] != b["label"]:
        return f"{a['id']} has the label {a['label']}, and then {b['label']}"
    return ""


def open_benchmark(report: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a report is of."""
    if report["benchmark"] == "rows":
        return own_rows(report["settings"]["data"])
    return find(report["benchmark"])


def _names(reports: Sequence[Row], folders: tuple[Path, Path]) -> tuple[str, str]:
    """The judges with their votes; and the folders, if those are the same."""
    first, second = (f"{judge_name(r)}, {Vote(**r['verdict']).label}" for r in reports)
    if first == second:
        return f"{first} ({folders[0]})", f"{second} ({folders[1]})"
    return first, second
