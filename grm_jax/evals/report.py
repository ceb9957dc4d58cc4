"""The report of an evaluation: `report.json` and `rows.jsonl` in its folder, from its samples.

The folder has `samples.jsonl` (every judgment, see `judge_benchmark`) and optionally `greedy.jsonl`
(one greedy judgment per row). Equal samples give equal reports.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from grm_jax import __version__
from grm_jax.evals.benchmark import Benchmark, Table, Totals
from grm_jax.evals.bootstrap import bootstrap
from grm_jax.evals.intervals import Interval, difference, percentage
from grm_jax.evals.scoring import Scorer, cells, score
from grm_jax.evals.survey import Survey, had_no_answer
from grm_jax.evals.template import write
from grm_jax.evals.votes import Vote, votes_of
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.samples import from_json, read_samples
from grm_jax.text.json_line import json_line, plain

SAMPLES, GREEDY, REPORT, ROWS = "samples.jsonl", "greedy.jsonl", "report.json", "rows.jsonl"

Row = dict[str, Any]


def write_report(
    benchmark: Benchmark,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    k_meta: int | None = None,
    scalar: bool = False,
    usage: Mapping[str, Any] | None = None,
    resamples: int = 1000,
) -> Row:
    """Scores the folder's samples; writes both files and returns the report.

    Args:
        settings: those of the evaluation, for the record.
        k_meta: samples that a guided vote counts.
        scalar: as in `Scorer`.
        usage: tokens and costs as an endpoint counted them.
        resamples: of the bootstrap.

    Raises:
        FileNotFoundError, ValueError, Unanswered: as `read_samples` and `Scorer`.
    """
    scorer = Scorer(benchmark, folder / SAMPLES, partial(votes_of, k_meta=k_meta), scalar=scalar)
    lines = [_lines(benchmark, scorer, row) for row in read_samples(folder / SAMPLES)]
    survey, tables = scorer.survey, scorer.tables()
    last = list(tables)[-1]  # gives the verdicts: all samples, guided if there are meta scores
    measured, gains = _measure(benchmark, tables, resamples)
    rows = Counter(benchmark.count(tables[last][0])) + survey.left_out
    report = plain(
        {
            "benchmark": benchmark.name,
            "title": benchmark.label(rows, survey.unanswered_rows.total()),
            "missing": benchmark.missing(rows),
            "headline": benchmark.headline,
            "secret": benchmark.secret,
            "rows": survey.rows,
            "data": survey.data.hexdigest(),
            "subsets": dict(survey.subsets),
            "k": survey.k,
            "verdict": asdict(last),
            "scalar": scalar,
            "votes": measured,
            "gains": gains,
            "samples": survey.to_json(),
            "greedy": _greedy(benchmark, folder / GREEDY, scalar, resamples),
            **_unanswered(benchmark, survey, list(measured[-1]["cells"])),
            "unread_rows": survey.unread_rows,
            "unread": survey.unread,
            "left_out": dict(survey.left_out),
            "why_left_out": survey.why_left_out,
            "meta": survey.meta and asdict(survey.meta),
            "usage": usage and dict(usage),
            "settings": dict(settings),
            "versions": _versions(),
        }
    )
    rows_file = (known | by_vote.get(last, {}) for known, by_vote in filter(None, lines))
    write(folder / ROWS, "".join(map(json_line, rows_file)))
    write(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def read_report(folder: Path) -> Row:
    """The report in a folder.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is something else.
    """
    path = folder / REPORT
    if not path.is_file():
        raise FileNotFoundError(f"there is no {REPORT} in {folder}: write it with `grm eval`.")
    report = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(report, dict) or "benchmark" not in report or "votes" not in report:
        raise ValueError(f"{path} is no report of `grm eval` on a benchmark.")
    return report


def read_rows(folder: Path) -> Iterator[Row]:
    """The lines of `rows.jsonl`: id, digest, subset, unit and label of each row, with its scores,
    value and verdict."""
    with (folder / ROWS).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def judged_lines(samples: Path) -> Iterator[str]:
    """The lines of a file of samples that have judgments, unparsed: a page needs only a few."""
    with samples.open(encoding="utf-8") as file:
        # No text can contain this: in JSON its quotes would be escaped.
        yield from (line for line in file if '"judgments": [' in line)


def parse(line: str) -> Sampled:
    """The judgments in a line."""
    return from_json(json.loads(line))


def verdict(summed: Totals | None, label: int | None, n: int) -> str | None:
    """right, tied, wrong or unread; None if a single row cannot be right or wrong. (A row without
    an answer is "unanswered" in `rows.jsonl`.)"""
    if label is None or n < 2:
        return None
    if summed is None:
        return "unread"
    if summed[label] < max(summed):
        return "wrong"
    return "right" if summed.count(max(summed)) == 1 else "tied"


def _versions() -> dict[str, str]:
    return {
        "grm_jax": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _unanswered(benchmark: Benchmark, survey: Survey, names: Sequence[str]) -> Row:
    """The rows that had no answer: how many, which, and how many of them each cell lacks."""
    lacking = {name: benchmark.lacking(name, survey.unanswered_rows) for name in names}
    count = survey.unanswered_rows.total()
    return {
        "unanswered_rows": count,
        "unanswered_share": count / max(count + survey.rows, 1),
        "unanswered": survey.unanswered,
        "lacking": {name: rows for name, rows in lacking.items() if rows},
    }


def _measure(
    benchmark: Benchmark, tables: Mapping[Vote, Sequence[Table]], resamples: int
) -> tuple[list[Row], list[Row]]:
    """Cells with intervals for each vote, and what guiding gains at equal k on the same rows."""
    values = {vote: cells(benchmark, choices) for vote, choices in tables.items()}
    draws = {
        vote: bootstrap(benchmark, choices, resamples=resamples) for vote, choices in tables.items()
    }
    measured = [
        _entry(vote, {name: percentage(value, draws[vote][name]) for name, value in cell.items()})
        for vote, cell in values.items()
    ]
    gains = []
    for vote in filter(lambda vote: vote.guided, tables):
        voting = Vote(vote.k)
        turned = bootstrap(benchmark, tables[vote], resamples=resamples, turned=True)
        gained = {
            name: difference(value - values[voting][name], turned[name] - draws[voting][name])
            for name, value in values[vote].items()
        }
        gains.append(_entry(vote, gained))
    return measured, gains


def _entry(vote: Vote, intervals: Mapping[str, Interval]) -> Row:
    return {
        "label": vote.label,
        **asdict(vote),
        "cells": {name: asdict(interval) for name, interval in intervals.items()},
    }


def _greedy(benchmark: Benchmark, path: Path, scalar: bool, resamples: int) -> Row | None:
    """The cells of a greedy judgment; None if there is none."""
    if not path.exists():
        return None
    scorer = score(benchmark, path, [Vote(1)], scalar=scalar)
    if not scorer.survey.rows:
        return None
    (entry,), _ = _measure(benchmark, scorer.tables(), resamples)
    return {
        "cells": entry["cells"],
        "samples": scorer.survey.to_json(),
        **_unanswered(benchmark, scorer.survey, list(entry["cells"])),
    }


def _lines(
    benchmark: Benchmark, scorer: Scorer, row: Sampled | Refusal
) -> tuple[Row, dict[Vote, Row]] | None:
    """Scores a row: the part of its line in `rows.jsonl` that is the same for every vote, and the
    rest for each vote over all samples. None if the row was not to be judged."""
    groups = scorer.add(row)
    if isinstance(row, Refusal):
        known = {name: (row.row or {}).get(name) for name in ("digest", "subset", "unit", "label")}
        rest = {"scores": None, "value": None, "verdict": "unanswered"}
        return ({"id": row.id, **known, **rest}, {}) if had_no_answer(row) else None
    example = row.example
    known = {
        "id": example.id,
        "digest": row.digest,
        "subset": benchmark.subset(example),
        "unit": benchmark.unit(example),
        "label": example.label,
    }
    return known, {
        vote: {
            "scores": summed,
            "value": benchmark.value(example, summed, scorer.scalar),
            "verdict": verdict(summed, example.label, example.n),
        }
        for vote, (summed, *_) in groups.items()
        if vote.k == len(row.judgments)
    }
