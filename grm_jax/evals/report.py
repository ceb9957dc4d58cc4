"""The report of an evaluation: `report.json` and `rows.jsonl` in its folder, from its samples.

The folder holds `samples.jsonl` (every judgment, see `judge_benchmark`) and perhaps `greedy.jsonl`
(one judgment of each row without chance). The same samples give the same report.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from grm_jax import __version__
from grm_jax.evals.benchmark import Benchmark, Table, Totals
from grm_jax.evals.intervals import Interval, difference, percentage
from grm_jax.evals.scoring import (
    Vote,
    bootstrap,
    cells,
    choices,
    had_no_answer,
    tables,
    totals,
)
from grm_jax.evals.survey import Survey, survey
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.samples import read_samples
from grm_jax.text.json_line import json_line

SAMPLES, GREEDY, REPORT, ROWS = "samples.jsonl", "greedy.jsonl", "report.json", "rows.jsonl"

Row = dict[str, Any]


def votes_of(k: int, *, rated: bool, k_meta: int | None = None) -> list[Vote]:
    """Voting@1, 2, 4 .. k, and with meta scores MetaRM@k for the same k, where it differs."""
    sizes = sorted({2**i for i in range(k.bit_length()) if 2**i <= k} | {k})
    guided = [Vote(n, True, k_meta) for n in sizes if n > 1 and n >= (k_meta or 1)] if rated else []
    return [Vote(n) for n in sizes] + guided


def verdict_vote(report: Mapping[str, Any]) -> Vote:
    """The vote that decides: all samples, guided where there are meta scores. `rows.jsonl` has its
    totals."""
    return Vote(**report["verdict"])


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
        settings: what the evaluation was asked for, for the record.
        k_meta, scalar: as for `tables`.
        usage: what an endpoint counted.
        resamples: of the bootstrap.

    Raises:
        FileNotFoundError, ValueError, Unanswered: as `tables`.
    """
    counted = survey(benchmark, folder / SAMPLES)
    # Where nothing was judged, there is no k, and `tables` says why.
    votes = votes_of(max(counted.k, 1), rated=counted.rated, k_meta=k_meta)
    found = tables(benchmark, folder / SAMPLES, votes, scalar=scalar)
    measured, gains = _measure(benchmark, found, resamples)
    whole = Counter(benchmark.found(found[votes[-1]][0])) + counted.left_out
    report = {
        "benchmark": benchmark.name,
        "title": benchmark.label(whole, counted.unanswered_rows.total()),
        "missing": benchmark.missing(whole),
        "headline": benchmark.headline,
        "secret": benchmark.secret,
        "rows": counted.rows,
        "data": counted.data,
        "subsets": dict(counted.subsets),
        "k": counted.k,
        "verdict": asdict(votes[-1]),
        "scalar": scalar,
        "votes": measured,
        "gains": gains,
        "samples": counted.to_json(),
        "greedy": _greedy(benchmark, folder / GREEDY, scalar, resamples),
        **_unanswered(benchmark, counted, list(measured[-1]["cells"])),
        "unread_rows": counted.unread_rows,
        "unread": counted.unread,
        "left_out": dict(counted.left_out),
        "why_left_out": counted.why_left_out,
        "meta": counted.meta and asdict(counted.meta),
        "usage": usage and dict(usage),
        "settings": dict(settings),
        "versions": {
            "grm_jax": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    _write(folder / ROWS, map(json_line, _rows(benchmark, folder / SAMPLES, votes[-1], scalar)))
    _write(folder / REPORT, [json.dumps(known(report), indent=2, ensure_ascii=False) + "\n"])
    return known(report)


def read_report(folder: Path) -> Row:
    """The report in a folder.

    Raises:
        FileNotFoundError, ValueError: there is none, or another kind of file.
    """
    path = folder / REPORT
    if not path.is_file():
        raise FileNotFoundError(f"there is no {REPORT} in {folder}: write it with `grm eval`.")
    report = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(report, dict) or "benchmark" not in report or "votes" not in report:
        raise ValueError(f"{path} is no report of `grm eval` on a benchmark.")
    return report


def read_rows(folder: Path) -> Iterator[Row]:
    """The lines of `rows.jsonl`: of each row its id, digest, subset, unit and label, and what was
    found: scores, value, verdict."""
    with (folder / ROWS).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def verdict(summed: Totals | None, label: int | None, n: int) -> str | None:
    """right, tied, wrong or unread; None where a row alone is neither right nor wrong. (A row that
    had no answer is "unanswered" in `rows.jsonl`.)"""
    if label is None or n < 2:
        return None
    if summed is None:
        return "unread"
    if summed[label] < max(summed):
        return "wrong"
    return "right" if summed.count(max(summed)) == 1 else "tied"


def _unanswered(benchmark: Benchmark, counted: Survey, names: Sequence[str]) -> Row:
    """How many rows had no answer, which those are, and how many of them each cell lacks."""
    lacking = {name: benchmark.lacking(name, counted.unanswered_rows) for name in names}
    count = counted.unanswered_rows.total()
    return {
        "unanswered_rows": count,
        "unanswered_share": count / max(count + counted.rows, 1),
        "unanswered": counted.unanswered,
        "lacking": {name: rows for name, rows in lacking.items() if rows},
    }


def _measure(
    benchmark: Benchmark, found: Mapping[Vote, Sequence[Table]], resamples: int
) -> tuple[list[Row], list[Row]]:
    """Cells with intervals by vote, and what guiding gains at the same k, on the same rows."""
    values = {vote: cells(benchmark, chosen) for vote, chosen in found.items()}
    draws = {
        vote: bootstrap(benchmark, chosen, resamples=resamples) for vote, chosen in found.items()
    }
    measured = [
        _entry(vote, {name: percentage(value, draws[vote][name]) for name, value in cell.items()})
        for vote, cell in values.items()
    ]
    gains = []
    for vote in filter(lambda vote: vote.guided, found):
        plain = Vote(vote.k)
        turned = bootstrap(benchmark, found[vote], resamples=resamples, turned=True)
        gained = {
            name: difference(value - values[plain][name], turned[name] - draws[plain][name])
            for name, value in values[vote].items()
        }
        gains.append(_entry(vote, gained))
    return measured, gains


def _entry(vote: Vote, found: Mapping[str, Interval]) -> Row:
    return {
        "label": vote.label,
        **asdict(vote),
        "cells": {name: asdict(value) for name, value in found.items()},
    }


def _greedy(benchmark: Benchmark, path: Path, scalar: bool, resamples: int) -> Row | None:
    """The cells of one judgment without chance; None where there is none."""
    if not path.exists():
        return None
    counted = survey(benchmark, path)
    if not counted.rows:
        return None
    found = tables(benchmark, path, [Vote(1)], scalar=scalar)
    (entry,), _ = _measure(benchmark, found, resamples)
    return {
        "cells": entry["cells"],
        "samples": counted.to_json(),
        **_unanswered(benchmark, counted, list(entry["cells"])),
    }


def _rows(benchmark: Benchmark, samples: Path, vote: Vote, scalar: bool) -> Iterator[Row]:
    for row in listed(samples):
        if isinstance(row, Refusal):
            known_of = row.row or {}
            yield {
                "id": row.id,
                **{name: known_of.get(name) for name in ("digest", "subset", "unit", "label")},
                "scores": None,
                "value": None,
                "verdict": "unanswered",
            }
            continue
        example = row.example
        (summed,) = totals(row, vote, choices(len(row.judgments), vote.k))
        yield {
            "id": example.id,
            "digest": row.digest,
            "subset": benchmark.subset(example),
            "unit": str(example.meta.get("unit", example.id)),
            "label": example.label,
            "scores": summed,
            "value": benchmark.value(example, summed, scalar),
            "verdict": verdict(summed, example.label, example.n),
        }


def listed(samples: Path) -> Iterator[Sampled | Refusal]:
    """The rows of a file of samples with a line in `rows.jsonl`: all that were to be judged."""
    return (r for r in read_samples(samples) if isinstance(r, Sampled) or had_no_answer(r))


def known(value: Any) -> Any:
    """The same with None for every number that is none: JSON has no nan."""
    if isinstance(value, Mapping):
        return {name: known(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [known(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, lines: Any) -> None:
    """Writes lines to another file, then gives it its name."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(lines)
    os.replace(part, path)
