"""The page of an evaluation: `index.html` in its folder, one file that needs nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from grm_jax.evals.plots import COLOURS, Band, reliability_plot, scaling_plot
from grm_jax.evals.report import SAMPLES, listed, read_report, read_rows
from grm_jax.evals.template import FILTERS, known, render, write
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example

TEMPLATES = Path(__file__).parent / "templates"
# How many rows of each verdict are shown.
SHOWN = {"wrong": 6, "tied": 2, "unread": 2, "right": 3}

Row = dict[str, Any]


def write_page(folder: Path) -> Path:
    """Writes `folder/index.html` from the report and the samples there; the same folder gives the
    same bytes.

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
                "cells": [{"cell": found.get(name), "sign": sign} for _, found, sign in columns],
            }
            for name in last["cells"]
        ],
        costs=_costs(report),
        left_out=[
            (told, report[f"{kind}_rows"], report[kind])
            for kind, told in (
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
    """What to call the judge of a report."""
    settings = report["settings"]
    endpoint = settings.get("endpoint") or {}
    name = endpoint.get("model") or settings.get("samples") or settings.get("model") or "a judge"
    return f"{name} with {settings['meta_rm']}" if settings.get("meta_rm") else str(name)


def shown(example: Example, judgment: Judgment) -> Row:
    """A judgment with the responses as its judge saw them, for the macro `critique`."""
    scores = judgment.scores or [None] * example.n
    several = example.label is not None and example.n > 1
    return {
        "responses": [
            {
                "place": place + 1,
                "text": example.responses[index],
                "best": several and index == example.label,
                "score": None if scores[index] is None else f"{scores[index]:g}",
            }
            for place, index in enumerate(judgment.order)
        ],
        "text": judgment.text,
        "reason": judgment.reason,
        "meta": judgment.meta,
        "tokens": judgment.tokens,
    }


def telling(sampled: Sampled, verdict: str) -> Judgment:
    """The first judgment that says what the verdict says, best rated ones first; else the first
    that has scores, else the first."""
    judgments, label = sampled.judgments, sampled.example.label or 0
    # Without meta scores this leaves them as they are.
    rated = sorted(judgments, key=lambda j: -math.inf if j.meta is None else j.meta, reverse=True)
    readable = [j for j in rated if j.scores is not None]
    agreeing = [j for j in readable if is_correct(j.scores, label) == (verdict == "right")]
    return next(iter(agreeing or readable or judgments))


def _by_size(report: Row, sizes: Sequence[int]) -> Iterator[Row]:
    """The headline's cells by k: of greedy, of Voting, of MetaRM, and what the last gains."""
    name = report["headline"]
    if report["greedy"]:
        cells = [report["greedy"]["cells"][name] if k == 1 else None for k in sizes]
        yield {"name": "Greedy", "sign": False, "cells": cells}
    plain = [vote for vote in report["votes"] if not vote["guided"]]
    guided = [vote for vote in report["votes"] if vote["guided"]]
    for told, votes, sign in (
        ("Voting", plain, False),
        ("MetaRM", guided, False),
        ("Gain", report["gains"], True),
    ):
        found = {vote["k"]: vote["cells"][name] for vote in votes}
        if found:
            yield {"name": told, "sign": sign, "cells": [found.get(k) for k in sizes]}


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
    """The headline against k, with bands; None without a value."""
    bands = []
    for guided, label in ((False, "Voting"), (True, "MetaRM")):
        cells = {
            vote["k"]: vote["cells"][report["headline"]]
            for vote in report["votes"]
            if vote["guided"] == guided
        }
        found = {
            k: (cell["value"], cell["low"], cell["high"])
            for k, cell in cells.items()
            if all(map(known, cell.values()))
        }
        if found:
            bands.append(Band(label, found, COLOURS[1 + guided], dashed=guided))
    return scaling_plot("scaling", report["headline"], bands) if bands else None


def _costs(report: Row) -> list[Row]:
    rows = [{"name": "Samples", **report["samples"]}]
    if report["greedy"]:
        rows.append({"name": "Greedy", **report["greedy"]["samples"]})
    return rows


def _examples(folder: Path) -> list[Row]:
    """The first rows of each verdict, from as many subsets as there are."""
    subsets = {row["subset"] for row in read_rows(folder)}
    each = {kind: -(-most // max(len(subsets), 1)) for kind, most in SHOWN.items()}
    found: dict[str, list[Row]] = {kind: [] for kind in SHOWN}
    taken: Counter[tuple[str, str]] = Counter()
    for row, whole in zip(read_rows(folder), listed(folder / SAMPLES), strict=True):
        kind, subset = row["verdict"], row["subset"]
        if kind not in found or isinstance(whole, Refusal):
            continue
        if len(found[kind]) == SHOWN[kind] or taken[kind, subset] == each[kind]:
            continue
        taken[kind, subset] += 1
        found[kind].append(_example(row, whole))
    return [row for rows in found.values() for row in rows]


def _example(row: Row, sampled: Sampled) -> Row:
    """A row with one of its judgments, and what every judgment gave."""
    example, judgments = sampled.example, sampled.judgments
    votes = [
        " ".join("–" if j.scores is None else f"{j.scores[i]:g}" for j in judgments)
        for i in range(example.n)
    ]
    return {
        "verdict": row["verdict"],
        "subset": row["subset"],
        "prompt": [{"role": turn.role, "content": turn.content} for turn in example.prompt],
        "judgment": shown(example, telling(sampled, row["verdict"])),
        "votes": votes,
    }
