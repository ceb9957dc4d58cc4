"""The page of an SPCT run: `index.html` in its folder, one file that needs nothing else.

It shows what is in the folder: a stage that is missing has no section.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grm_jax.evals.page_parts import TEMPLATES, shown, turns
from grm_jax.evals.plots import COLOURS, Line, accuracy_plot
from grm_jax.evals.report import verdict
from grm_jax.evals.spct_stages import grpo, meta, read_json, rft
from grm_jax.evals.template import FILTERS, is_known, render, write
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.samples import read_samples

NAMES = {"start": "Start", "rft": "RFT", "grpo": "GRPO", "meta_rm": "Meta RM"}
STAGES = ("rft", "grpo", "meta_rm", "evaluation")
BETTER, WORSE = 6, 2

Row = dict[str, Any]


def write_page(output: Path) -> Path:
    """Writes `output/index.html` from the run's folder; equal folders give equal bytes.

    Returns:
        The page.
    """
    report = read_json(output / "evaluation" / "report.json")
    config = output / "config.yaml"
    page = render(
        TEMPLATES / "spct.html",
        FILTERS,
        name=output.resolve().name,
        seconds=(seconds := _seconds(output)),
        total=sum(row["seconds"] for row in seconds),
        evaluation=report and _evaluation(report),
        examples=report and _examples(output / "evaluation", list(report["stages"])),
        rft=rft(output / "rft"),
        grpo=grpo(output / "grpo"),
        meta=meta(output / "meta_rm"),
        config=config.read_text(encoding="utf-8") if config.exists() else None,
    )
    return write(output / "index.html", page)


def _seconds(output: Path) -> list[Row]:
    """How long each stage took, over all its parts, and whether it is done."""
    stamps = ((name, read_json(output / name / "stage.json")) for name in STAGES)
    return [
        {"name": NAMES.get(name, "Evaluation"), "seconds": s["seconds"], "done": s["done"]}
        for name, s in stamps
        if s is not None
    ]


def _evaluation(report: Row) -> Row:
    """The accuracies as a table and a plot, and the cost of the judgments."""
    stages: dict[str, Row] = report["stages"]
    votes = {name: stage["voting"] for name, stage in stages.items()}
    sizes = sorted({int(k) for vote in votes.values() for k in vote["credited"]})
    lines = []
    for (name, vote), colour in zip(votes.items(), COLOURS, strict=False):
        lines.append(Line(_label(name), _points(vote["credited"]), colour))
        if vote.get("guided"):
            points = _points(vote["guided"])
            lines.append(Line(f"{_label(name)}, MetaRM", points, colour, dashed=True))
    return {
        "judged": report["items"],
        "k": report["k"],
        "sizes": sizes,
        "credited": _accuracies(stages, "credited", sizes),
        "strict": _accuracies(stages, "strict", sizes),
        "plot": accuracy_plot("accuracy", lines),
        "costs": [
            {
                "name": _label(name),
                "tokens": vote["tokens"],
                "samples": vote["samples"],
                "invalid": sum(vote["invalid"].values()) / max(vote["samples"], 1),
                "unanswered": vote.get("unanswered", 0),
                "reasons": sorted(vote["invalid"].items(), key=lambda x: (-x[1], x[0])),
            }
            for name, vote in votes.items()
        ],
    }


def _accuracies(stages: Mapping[str, Row], kind: str, sizes: Sequence[int]) -> list[Row]:
    """A row per stage: greedy, Voting@k, and with a meta RM MetaRM@k and the difference."""

    def cells(estimates: Row | None) -> list[Row | None]:
        return [_estimate(estimates.get(str(k))) for k in sizes] if estimates else []

    return [
        {
            "name": _label(name),
            "greedy": _estimate(stage.get("greedy", {}).get(kind, {}).get("1")),
            "cells": cells(stage["voting"][kind]),
            "guided": cells(stage["voting"].get("guided")),
            "gain": cells(stage["voting"].get("gain")),
        }
        for name, stage in stages.items()
    ]


def _estimate(estimate: Row | None) -> Row | None:
    """A mean and its error in percent, and whether it is more than two errors from zero."""
    if estimate is None or not is_known(estimate["mean"]):
        return None
    error = estimate["error"] if is_known(estimate["error"]) else None
    return {
        "mean": 100 * estimate["mean"],
        "error": None if error is None else 100 * error,
        "beyond": error is not None and abs(estimate["mean"]) > 2 * error,
    }


def _points(estimates: Mapping[str, Row]) -> dict[int, tuple[float, float]]:
    return {
        int(k): (100 * e["mean"], 100 * e["error"] if is_known(e["error"]) else math.nan)
        for k, e in estimates.items()
        if is_known(e["mean"])
    }


def _examples(folder: Path, stages: Sequence[str]) -> list[Row]:
    """The first items that the last model gets right and the start model wrong, by their first
    judgments, and some the other way round. All files have the same items in the same order."""
    paths = [folder / f"{name}.jsonl" for name in stages]
    if len(paths) < 2 or not all(path.exists() for path in paths):
        return []
    wanted = {True: BETTER, False: WORSE}
    examples: dict[bool, list[Row]] = {True: [], False: []}
    for rows in zip(*map(read_samples, paths), strict=False):
        sampled = [row for row in rows if isinstance(row, Sampled) and row.judgments]
        if len(sampled) < len(rows) or len({row.example.id for row in sampled}) > 1:
            continue
        first, last = (_verdict(sampled[i]) == "right" for i in (0, -1))
        if first != last and len(examples[last]) < wanted[last]:
            examples[last].append(_example(stages, sampled, better=last))
        if all(len(examples[kind]) == wanted[kind] for kind in wanted):
            break
    return examples[True] + examples[False]


def _example(stages: Sequence[str], sampled: Sequence[Sampled], *, better: bool) -> Row:
    """One item with every stage's first judgment of it."""
    example = sampled[0].example
    judgments = [
        {"name": _label(name), "verdict": _verdict(row), **shown(row.example, row.judgments[0])}
        for name, row in zip(stages, sampled, strict=True)
    ]
    same = len({row.judgments[0].order for row in sampled}) == 1
    return {
        "id": example.id,
        "better": better,
        "prompt": turns(example),
        # Shown once where every judge saw the responses in the same order.
        "responses": judgments[0]["responses"] if same else None,
        "judgments": judgments,
    }


def _verdict(row: Sampled) -> str:
    """The verdict of the first judgment alone."""
    scores = row.judgments[0].scores
    if scores is None:
        return "invalid"
    return str(verdict(scores, row.example.label or 0, row.example.n))


def _label(stage: str) -> str:
    return NAMES.get(stage, stage)
