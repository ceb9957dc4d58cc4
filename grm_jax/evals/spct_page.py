"""The page of an SPCT run: `index.html` in its folder, one file that needs nothing else.

It shows what the run's folder holds: a stage that is not there has no section.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grm_jax.evals.plots import COLOURS, Line, accuracy_plot, curve, reliability_plot
from grm_jax.evals.template import FILTERS, known, render, write
from grm_jax.judging.judgment import Judgment, Sampled
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

NAMES = {"start": "Start", "rft": "RFT", "grpo": "GRPO", "meta_rm": "Meta RM"}
STAGES = ("rft", "grpo", "meta_rm", "evaluation")
OUTCOMES = {
    "chosen": "learned from",
    "too_easy": "all plain judgments of the item are right",
    "tied": "the best response shares the highest score",
    "wrong": "another response is ahead",
    "unparsable": "no scores can be read",
}
# (metric, title, as percent) of the small pictures of GRPO.
RL_CURVES = (
    (REWARD, "Mean reward (+1 right, −1 not)", False),
    (KL, "KL to the reference", False),
    (ENTROPY, "Entropy per token, nats", False),
    (MEAN_LENGTH, "Mean length, tokens", False),
    (ZERO_STD, "Groups without a signal, %", True),
    (INVALID_RATIO, "Invalid judgments, %", True),
)
RIGHT = "right"  # the share of a step's judgments that the meta RM tells right
BETTER, WORSE = 6, 2
THROWN_AWAY = 2

Row = dict[str, Any]


def write_page(output: Path) -> Path:
    """Writes `output/index.html` from the run's folder; the same folder gives the same bytes.

    Returns:
        The page.
    """
    report = _json(output / "evaluation" / "report.json")
    config = output / "config.yaml"
    page = render(
        Path(__file__).parent / "templates" / "spct.html",
        FILTERS,
        name=output.resolve().name,
        seconds=(seconds := _seconds(output)),
        total=sum(row["seconds"] for row in seconds),
        evaluation=report and _evaluation(report),
        examples=report and _examples(output / "evaluation", list(report["stages"])),
        rft=_rft(output / "rft"),
        grpo=_grpo(output / "grpo"),
        meta=_meta(output / "meta_rm"),
        config=config.read_text(encoding="utf-8") if config.exists() else None,
    )
    return write(output / "index.html", page)


def _seconds(output: Path) -> list[Row]:
    """Per stage how long it took, over all its parts, and whether it is done."""
    stamps = ((name, _json(output / name / "stage.json")) for name in STAGES)
    return [
        {"name": NAMES.get(name, "Evaluation"), "seconds": s["seconds"], "done": s["done"]}
        for name, s in stamps
        if s is not None
    ]


def _evaluation(report: Row) -> Row:
    """The accuracies as a table and a plot, and what the judgments cost."""
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
    """A row per stage: greedy, then Voting@k; and with a meta RM MetaRM@k and the difference."""

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


def _estimate(found: Row | None) -> Row | None:
    """A mean and its error in percent, and whether it is more than two errors from zero."""
    if found is None or not known(found["mean"]):
        return None
    error = found["error"] if known(found["error"]) else None
    return {
        "mean": 100 * found["mean"],
        "error": None if error is None else 100 * error,
        "beyond": error is not None and abs(found["mean"]) > 2 * error,
    }


def _points(estimates: Mapping[str, Row]) -> dict[int, tuple[float, float]]:
    return {
        int(k): (100 * e["mean"], 100 * e["error"] if known(e["error"]) else math.nan)
        for k, e in estimates.items()
        if known(e["mean"])
    }


def _rft(folder: Path) -> Row | None:
    """What became of the judgments, some that were thrown away, and the training."""
    report = _json(folder / "report.json")
    metrics = list(_lines(folder / "rft" / "metrics.jsonl"))
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
    """A table of counts with their share of the row."""
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
    """The first judgments of each outcome but `chosen`."""
    found: dict[str, list[Row]] = {name: [] for name in OUTCOMES if name != "chosen"}
    for row in _lines(path):
        kept = found.get(row["outcome"], [])
        if row["outcome"] in found and len(kept) < THROWN_AWAY:
            scores = row["scores"] or [None] * len(row["responses"])
            kept.append(
                {
                    "outcome": row["outcome"].replace("_", " "),
                    "why": OUTCOMES[row["outcome"]],
                    "reason": row["reason"],
                    "kind": "hinted" if row["hinted"] else "plain",
                    "query": row["query"],
                    "responses": _shown(row["responses"], row["best"], scores),
                    "text": row["text"],
                }
            )
        if all(len(kept) == THROWN_AWAY for kept in found.values()):
            break
    return [row for kept in found.values() for row in kept]


def _grpo(folder: Path) -> Row | None:
    """The filter's work, curves over the steps, and speed."""
    metrics = list(_lines(folder / "metrics.jsonl"))
    if not metrics:
        return None
    speeds = [row[TOKENS_PER_SECOND] for row in metrics if known(row.get(TOKENS_PER_SECOND))]
    drifts = [row[DRIFT] for row in metrics if known(row.get(DRIFT))]
    return {
        "steps": metrics[-1]["step"],
        "filter": _filtered(folder / "filter.jsonl"),
        "plots": _curves("grpo", metrics, RL_CURVES, COLOURS[2]),
        "speed": median(speeds) if speeds else None,
        "drift": max(drifts, default=None),
    }


def _filtered(path: Path) -> Row | None:
    """How many items the reference judge always got right, which left them out."""
    if not path.exists():
        return None
    judged = easy = 0
    for row in read_samples(path):
        if isinstance(row, Sampled):
            judged += 1
            easy += all(is_correct(j.scores, row.example.label or 0) for j in row.judgments)
    return {"judged": judged, "easy": easy}


def _meta(folder: Path) -> Row | None:
    """The training, and how well held-out judgments are told apart."""
    report = _json(folder / "report.json")
    metrics = [
        row | ({RIGHT: row[CORRECT] / row[TARGETS]} if row.get(TARGETS) else {})
        for row in _lines(folder / "metrics.jsonl")
    ]
    if report is None and not metrics:
        return None
    curves = [(LOSS, "Training loss", False), (RIGHT, "Judgments told right, %", True)]
    heldout = report and report["heldout"]
    plots = _curves("meta", metrics, curves, COLOURS[3])
    if heldout:
        svg = reliability_plot("reliability", heldout["bins"])
        plots.append({"title": "Calibration on held-out judgments", "svg": svg})
    return {
        "plots": plots,
        "train": report and report["train"],
        "heldout": heldout and {k: v if known(v) else None for k, v in heldout.items()},
    }


def _curves(
    stage: str, metrics: Sequence[Row], wanted: Iterable[tuple[str, str, bool]], colour: str
) -> list[Row]:
    """A titled plot for each metric that is there."""
    plots = []
    for number, (name, title, percent) in enumerate(wanted):
        rows = [row for row in metrics if known(row.get(name))]
        values = [row[name] * (100 if percent else 1) for row in rows]
        plot = curve(f"{stage}-{number}", title, [row["step"] for row in rows], values, colour)
        if plot is not None:
            plots.append({"title": title, "svg": plot})
    return plots


def _examples(folder: Path, stages: Sequence[str]) -> list[Row]:
    """The first items that the last model's first judgment has right and the start's wrong, and
    some the other way round. All files have the same items in the same order."""
    paths = [folder / f"{name}.jsonl" for name in stages]
    if len(paths) < 2 or not all(path.exists() for path in paths):
        return []
    wanted = {True: BETTER, False: WORSE}
    found: dict[bool, list[Row]] = {True: [], False: []}
    for rows in zip(*map(read_samples, paths), strict=False):
        sampled = [row for row in rows if isinstance(row, Sampled) and row.judgments]
        if len(sampled) < len(rows) or len({row.example.id for row in sampled}) > 1:
            continue
        first, last = (_is_right(sampled[place]) for place in (0, -1))
        if first != last and len(found[last]) < wanted[last]:
            found[last].append(_example(stages, sampled, better=last))
        if all(len(found[kind]) == wanted[kind] for kind in wanted):
            break
    return found[True] + found[False]


def _example(stages: Sequence[str], sampled: Sequence[Sampled], *, better: bool) -> Row:
    """One item with every stage's first judgment of it."""
    example = sampled[0].example
    shown = [(row.judgments[0], _places(row)) for row in sampled]
    same = len({judgment.order for judgment, _ in shown}) == 1
    return {
        "id": example.id,
        "better": better,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in example.prompt],
        # Told once where every judge saw the responses in the same order.
        "responses": shown[0][1] if same else None,
        "judgments": [
            {
                "name": _label(name),
                "responses": places,
                "verdict": _verdict(judgment, row),
                "reason": judgment.reason,
                "tokens": judgment.tokens,
                "text": judgment.text,
            }
            for name, row, (judgment, places) in zip(stages, sampled, shown, strict=True)
        ],
    }


def _places(row: Sampled) -> list[Row]:
    """The responses as the first judgment's judge saw them."""
    judgment, example = row.judgments[0], row.example
    scores = judgment.scores or [None] * example.n
    best = None if example.label is None else judgment.order.index(example.label)
    return _shown(
        [example.responses[i] for i in judgment.order], best, [scores[i] for i in judgment.order]
    )


def _shown(responses: Sequence[str], best: int | None, scores: Sequence[float | None]) -> list[Row]:
    return [
        {"place": place + 1, "text": text, "best": place == best, "score": score}
        for place, (text, score) in enumerate(zip(responses, scores, strict=True))
    ]


def _is_right(row: Sampled) -> bool:
    return is_correct(row.judgments[0].scores, row.example.label or 0)


def _verdict(judgment: Judgment, row: Sampled) -> str:
    if judgment.scores is None:
        return "invalid"
    if _is_right(row):
        return "right"
    tied = judgment.scores[row.example.label or 0] == max(judgment.scores)
    return "tied" if tied else "wrong"


def _json(path: Path) -> Row | None:
    """The object in a file; None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _lines(path: Path) -> Iterator[Row]:
    """The rows of a file, one at a time; none without it, and not a last line that a kill tore."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return
            yield row


def _label(stage: str) -> str:
    return NAMES.get(stage, stage)
