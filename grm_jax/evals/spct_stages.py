"""The sections of an SPCT run's page, one per training stage, from the stage's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grm_jax.evals.page_parts import responses
from grm_jax.evals.plots import COLOURS, curve, reliability_plot
from grm_jax.evals.template import is_known
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples
from grm_jax.metric_names import (
    CORRECT,
    DRIFT,
    ENTROPY,
    INVALID_RATIO,
    KL,
    LOSS,
    MEAN_LENGTH,
    REWARD,
    TARGETS,
    TOKENS_PER_SECOND,
    ZERO_STD,
)

OUTCOMES = {
    "chosen": "learned from",
    "too_easy": "all plain judgments of the item are right",
    "tied": "the best response shares the highest score",
    "wrong": "another response is ahead",
    "unparsable": "no scores can be read",
}
# (metric, title, as percent) of the small plots of GRPO.
RL_CURVES = (
    (REWARD, "Mean reward (+1 right, −1 not)", False),
    (KL, "KL to the reference", False),
    (ENTROPY, "Entropy per token, nats", False),
    (MEAN_LENGTH, "Mean length, tokens", False),
    (ZERO_STD, "Groups without a signal, %", True),
    (INVALID_RATIO, "Invalid judgments, %", True),
)
RIGHT = "right"  # the share of a step's judgments that the meta RM classifies correctly
THROWN_AWAY = 2

Row = dict[str, Any]


def rft(folder: Path) -> Row | None:
    """The outcomes of the judgments, some that were rejected, and the training."""
    report = read_json(folder / "report.json")
    metrics = list(read_lines(folder / "rft" / "metrics.jsonl"))
    if report is None and not metrics:
        return None
    report = report or {}
    kinds = {name.capitalize(): report[name] for name in ("plain", "hinted") if report.get(name)}
    sizes = sorted(report.get("by_responses", {}).items(), key=lambda x: int(x[0]))
    return {
        "judged": report.get("items"),
        "chosen": report.get("items_with_a_chosen_judgment"),
        "kinds": _outcomes(kinds),
        "sizes": _outcomes({f"{n} response{'s' * (n != '1')}": counts for n, counts in sizes}),
        "plots": _curves("rft", metrics, [(LOSS, "Training loss", False)], COLOURS[1]),
        "thrown_away": _thrown_away(folder / "trajectories.jsonl"),
    }


def _outcomes(rows: Mapping[str, Mapping[str, int]]) -> Row:
    """A table of counts, with their shares of the row."""
    names = [*OUTCOMES, *sorted({name for row in rows.values() for name in row} - set(OUTCOMES))]
    return {
        "names": [(name.replace("_", " "), OUTCOMES.get(name, "")) for name in names],
        "rows": [
            {
                "name": kind,
                "total": sum(counts.values()),
                "cells": [
                    (counts.get(name, 0), counts.get(name, 0) / max(sum(counts.values()), 1))
                    for name in names
                ],
            }
            for kind, counts in rows.items()
        ],
    }


def _thrown_away(path: Path) -> list[Row]:
    """The first judgments of each outcome except `chosen`."""
    examples: dict[str, list[Row]] = {name: [] for name in OUTCOMES if name != "chosen"}
    for row in read_lines(path):
        kept = examples.get(row["outcome"], [])
        if row["outcome"] in examples and len(kept) < THROWN_AWAY:
            kept.append(
                {
                    "outcome": row["outcome"].replace("_", " "),
                    "why": OUTCOMES[row["outcome"]],
                    "reason": row["reason"],
                    "kind": "hinted" if row["hinted"] else "plain",
                    "query": row["query"],
                    "responses": responses(row["responses"], row["best"], row["scores"]),
                    "text": row["text"],
                }
            )
        if all(len(kept) == THROWN_AWAY for kept in examples.values()):
            break
    return [row for kept in examples.values() for row in kept]


def grpo(folder: Path) -> Row | None:
    """What the filter left out, curves over the steps, and speed."""
    metrics = list(read_lines(folder / "metrics.jsonl"))
    if not metrics:
        return None
    speeds = [row[TOKENS_PER_SECOND] for row in metrics if is_known(row.get(TOKENS_PER_SECOND))]
    drifts = [row[DRIFT] for row in metrics if is_known(row.get(DRIFT))]
    return {
        "steps": metrics[-1]["step"],
        "filter": _filtered(folder / "filter.jsonl"),
        "plots": _curves("grpo", metrics, RL_CURVES, COLOURS[2]),
        "speed": median(speeds) if speeds else None,
        "drift": max(drifts, default=None),
    }


def _filtered(path: Path) -> Row | None:
    """How many items were left out because the reference judge always got them right."""
    if not path.exists():
        return None
    judged = easy = 0
    for row in read_samples(path):
        if isinstance(row, Sampled):
            judged += 1
            easy += all(is_correct(j.scores, row.example.label or 0) for j in row.judgments)
    return {"judged": judged, "easy": easy}


def meta(folder: Path) -> Row | None:
    """The training, and how well the meta RM separates right and wrong held-out judgments."""
    report = read_json(folder / "report.json")
    metrics = [
        row | ({RIGHT: row[CORRECT] / row[TARGETS]} if row.get(TARGETS) else {})
        for row in read_lines(folder / "metrics.jsonl")
    ]
    if report is None and not metrics:
        return None
    curves = [(LOSS, "Training loss", False), (RIGHT, "Judgments classified correctly, %", True)]
    heldout = report and report["heldout"]
    plots = _curves("meta", metrics, curves, COLOURS[3])
    if heldout:
        svg = reliability_plot("reliability", heldout["bins"])
        plots.append({"title": "Calibration on held-out judgments", "svg": svg})
    return {
        "plots": plots,
        "train": report and report["train"],
        "heldout": heldout and {k: v if is_known(v) else None for k, v in heldout.items()},
    }


def _curves(
    stage: str, metrics: Sequence[Row], wanted: Iterable[tuple[str, str, bool]], colour: str
) -> list[Row]:
    """A titled plot for each metric that has values."""
    plots = []
    for number, (name, title, percent) in enumerate(wanted):
        rows = [row for row in metrics if is_known(row.get(name))]
        values = [row[name] * (100 if percent else 1) for row in rows]
        plot = curve(f"{stage}-{number}", title, [row["step"] for row in rows], values, colour)
        if plot is not None:
            plots.append({"title": title, "svg": plot})
    return plots


def read_json(path: Path) -> Row | None:
    """The object in a file; None if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_lines(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time, without a last line that a kill cut off; none if there is
    no file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return
            yield row
