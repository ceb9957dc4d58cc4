"""The page of an evaluation: `index.html` in its folder, one file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from grm_jax.evals.page_parts import TEMPLATES, shown, turns, typical
from grm_jax.evals.plots import COLOURS, Line, reliability_plot, scaling_plot
from grm_jax.evals.report import SAMPLES, judged_lines, parse, read_report, read_rows
from grm_jax.evals.template import FILTERS, is_known, render, write
from grm_jax.judging.judgment import Sampled

# Rows shown of each verdict.
SHOWN = {"wrong": 6, "tied": 2, "unread": 2, "right": 3}

Row = dict[str, Any]


def write_page(folder: Path) -> Path:
    """Writes `folder/index.html` from the report and the samples there; equal folders give equal
    bytes.

    Returns:
        The page.

    Raises:
        FileNotFoundError, ValueError: as `read_report`.
    """
    report = read_report(folder)
    votes = report["votes"]
    headline, last = report["headline"], votes[-1]
    sizes = [vote["k"] for vote in votes if not vote["guided"]]
    meta = report["meta"]
    columns = _columns(report)
    page = render(
        TEMPLATES / "eval.html",
        FILTERS,
        report=report,
        judge=judge_name(report),
        best=last["cells"][headline],
        last=last,
        sizes=sizes,
        headline=[*_by_size(report, sizes)],
        plot=_plot(report),
        columns=[name for name, _, _ in columns],
        cells=[
            {
                "name": name,
                "lacking": report["lacking"].get(name, 0),
                "cells": [{"cell": cells.get(name), "sign": sign} for _, cells, sign in columns],
            }
            for name in last["cells"]
        ],
        costs=[{"name": "Samples", **report["samples"]}]
        + ([{"name": "Greedy", **report["greedy"]["samples"]}] if report["greedy"] else []),
        left_out=[
            (sentence, report[f"{kind}_rows"], report[kind])
            for kind, sentence in (
                ("unanswered", "rows had no answer; they are in no number"),
                ("unread", "rows could not be read; they are in no number"),
            )
            if report[kind]
        ],
        reliability_plot=meta and reliability_plot("reliability", meta["bins"]),
        examples=[] if report["secret"] else _examples(folder),
        settings=yaml.safe_dump(
            {"settings": report["settings"], "versions": report["versions"]},
            sort_keys=False,
            allow_unicode=True,
        ),
    )
    return write(folder / "index.html", page)


def judge_name(report: Mapping[str, Any]) -> str:
    """The name of a report's judge."""
    settings = report["settings"]
    endpoint = settings.get("endpoint") or {}
    name = endpoint.get("model") or settings.get("samples") or settings.get("model") or "a judge"
    return f"{name} with {settings['meta_rm']}" if settings.get("meta_rm") else str(name)


def _by_size(report: Row, sizes: Sequence[int]) -> Iterator[Row]:
    """The headline by k: greedy, Voting, MetaRM, and what MetaRM gains."""
    name = report["headline"]
    if report["greedy"]:
        cells = [report["greedy"]["cells"][name] if k == 1 else None for k in sizes]
        yield {"name": "Greedy", "sign": False, "cells": cells}
    plain = [vote for vote in report["votes"] if not vote["guided"]]
    guided = [vote for vote in report["votes"] if vote["guided"]]
    for row, votes, sign in (
        ("Voting", plain, False),
        ("MetaRM", guided, False),
        ("Gain", report["gains"], True),
    ):
        by_size = {vote["k"]: vote["cells"][name] for vote in votes}
        if by_size:
            yield {"name": row, "sign": sign, "cells": [by_size.get(k) for k in sizes]}


def _columns(report: Row) -> list[tuple[str, Row, bool]]:
    """(name, cells, whether a difference): greedy, Voting@k, MetaRM@k, the gain."""
    plain = [vote for vote in report["votes"] if not vote["guided"]][-1]
    columns = [("Greedy", report["greedy"]["cells"], False)] if report["greedy"] else []
    columns.append((plain["label"], plain["cells"], False))
    if report["gains"]:
        last, gain = report["votes"][-1], report["gains"][-1]
        columns += [(last["label"], last["cells"], False), ("Gain", gain["cells"], True)]
    return columns


def _plot(report: Row) -> Any:
    """The headline against k, with bands; None if it has no value."""
    bands = []
    for guided, label in ((False, "Voting"), (True, "MetaRM")):
        cells = {
            vote["k"]: vote["cells"][report["headline"]]
            for vote in report["votes"]
            if vote["guided"] == guided
        }
        points = {
            k: (cell["value"], cell["low"], cell["high"])
            for k, cell in cells.items()
            if all(map(is_known, cell.values()))
        }
        if points:
            bands.append(Line(label, points, COLOURS[1 + guided], dashed=guided))
    return scaling_plot("scaling", report["headline"], bands) if bands else None


def _examples(folder: Path) -> list[Row]:
    """The first rows of each verdict, spread over the subsets."""
    subsets = {row["subset"] for row in read_rows(folder)}
    each = {kind: -(-most // max(len(subsets), 1)) for kind, most in SHOWN.items()}
    examples: dict[str, list[Row]] = {kind: [] for kind in SHOWN}
    taken: Counter[tuple[str, str]] = Counter()
    judged = (row for row in read_rows(folder) if row["verdict"] != "unanswered")
    for row, line in zip(judged, judged_lines(folder / SAMPLES), strict=True):
        kind, subset = row["verdict"], row["subset"]
        if kind not in SHOWN or len(examples[kind]) == SHOWN[kind]:
            continue
        if taken[kind, subset] == each[kind]:
            continue
        taken[kind, subset] += 1
        examples[kind].append(_example(row, parse(line)))
    return [row for rows in examples.values() for row in rows]


def _example(row: Row, sampled: Sampled) -> Row:
    """A row with one of its judgments, and the scores of all of them."""
    example, judgments = sampled.example, sampled.judgments
    votes = [
        " ".join("–" if j.scores is None else f"{j.scores[i]:g}" for j in judgments)
        for i in range(example.n)
    ]
    return {
        "verdict": row["verdict"],
        "subset": row["subset"],
        "prompt": turns(example),
        "judgment": shown(example, typical(sampled, row["verdict"])),
        "votes": votes,
    }
