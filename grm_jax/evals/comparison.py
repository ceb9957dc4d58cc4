"""Two evaluations of the same rows: paired differences of every cell, and the rows that flipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks import find, rows
from grm_jax.evals.eval_page import judge_name
from grm_jax.evals.intervals import Interval
from grm_jax.evals.report import SAMPLES, read_report, read_rows, verdict_vote
from grm_jax.evals.scoring import cells, differences, shared, tables

Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What two reports say of the same rows, by the last vote of each.

    Attributes:
        title: the benchmark's, with "partial" where it is.
        names: what to call the two judges.
        cells: by cell (of a, of b, b - a with its paired interval).
        flips: (verdict of a, verdict of b) -> how many rows, where the two differ.
        unanswered: rows to which one of the two had no answer: they are in no number.
        secret: whether the rows' texts may be shown.
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
        FileNotFoundError, ValueError: there is none, they are of two benchmarks, or their rows are
            not the same.
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
    for found in pairs(a, b):
        first, second = (row["verdict"] for row in found)
        if "unanswered" in (first, second):
            unanswered += 1
        elif first != second:
            flips[first, second] += 1
    benchmark = open_benchmark(reports[0])
    before, after = shared(
        *(
            tables(
                benchmark,
                folder / SAMPLES,
                [vote := verdict_vote(report)],
                scalar=report["scalar"],
            )[vote]
            for folder, report in zip((a, b), reports, strict=True)
        )
    )
    ours, theirs = cells(benchmark, before), cells(benchmark, after)
    found = differences(benchmark, before, after)
    whole = Counter(benchmark.found(before[0])) + Counter(reports[0].get("left_out"))
    return Comparison(
        title=benchmark.label(whole, unanswered),
        names=_names(reports, (a, b)),
        cells={name: (ours[name], theirs[name], found[name]) for name in found},
        flips=dict(flips.most_common()),
        unanswered=unanswered,
        secret=reports[0]["secret"],
    )


def pairs(a: Path, b: Path) -> Iterator[tuple[Row, Row]]:
    """The lines of both `rows.jsonl`.

    Raises:
        ValueError: they are not of the same rows in the same order.
    """
    for number, (first, second) in enumerate(zip_longest(read_rows(a), read_rows(b)), 1):
        keys = [_key(row) for row in (first, second)]
        if keys[0] != keys[1]:
            told = [" of ".join(key[:2]) if key else "no row" for key in keys]
            raise ValueError(
                f"the rows differ: in place {number} {a} has {told[0]} and {b} has {told[1]}. "
                "Evaluate both with the same --benchmark, --data and --limit."
            )
        yield first, second


def flipped(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether just one of two verdicts is right."""
    return (a["verdict"] == "right") != (b["verdict"] == "right")


def _key(row: Row | None) -> tuple[str, str, Any] | None:
    return None if row is None else (row["id"], row["subset"], row["label"])


def open_benchmark(report: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a report is of."""
    if report["benchmark"] == "rows":
        return rows(report["settings"]["data"])
    return find(report["benchmark"])


def _names(reports: Sequence[Row], folders: tuple[Path, Path]) -> tuple[str, str]:
    """The judges, with their votes; and the folders, where that is not enough to tell."""
    first, second = (f"{judge_name(r)}, {verdict_vote(r).label}" for r in reports)
    if first == second:
        return f"{first} ({folders[0]})", f"{second} ({folders[1]})"
    return first, second
