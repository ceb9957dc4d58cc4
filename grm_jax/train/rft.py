"""Rejective fine-tuning: `grm train rft`, the first stage of SPCT.

Sample judgments (plain, and once with the best response named), keep those that are right of items
that are not too easy, mix them with general instruction data, fine-tune.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grm_jax.copies import share
from grm_jax.data.config import SourceConfig
from grm_jax.data.items import load_items
from grm_jax.fingerprint import RowsHash
from grm_jax.judging.asking import Asking
from grm_jax.judging.collect import collect
from grm_jax.judging.judgment import Judgment
from grm_jax.judging.kinds import Learns
from grm_jax.outputs import write_whole
from grm_jax.processes import from_first, is_first, say
from grm_jax.text.json_line import json_line
from grm_jax.text.messages import Example
from grm_jax.text.prompts import Templates, without_principles
from grm_jax.train import sft
from grm_jax.train.config import RunConfig
from grm_jax.train.rejection import Trajectory, reject
from grm_jax.train.rollout import judgeable
from grm_jax.train.run import Run, open_run
from grm_jax.train.stages.rft import RFTConfig
from grm_jax.train.stages.sft import StageConfig
from grm_jax.train.start import learned_kind, start_templates

STAGE = "rft"


def run(run: RunConfig, cfg: RFTConfig) -> Path | None:
    """Samples, rejects and trains, or does what is left of it; writes `output/model`.

    Beside it: samples_plain.jsonl and samples_hinted.jsonl (what judges wrote), trajectories.jsonl
    (each judgment with its outcome), chosen.jsonl (what is learned), report.json (counts).

    Returns:
        The model folder; None if a signal ended the training early.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    templates = templates_of(run, cfg)
    with open_run(
        "grm train rft", run, cfg, sequences=cfg.batch.sequences, templates=templates
    ) as opened:
        _prepare(opened, cfg)
        mix = tuple(mixture(cfg, opened.output))
        stages = {STAGE: StageConfig(cfg.steps, mix, cfg.optimizer)}
        return sft.train(opened, stages, cfg.batch, cfg.kind)


def templates_of(run: RunConfig, cfg: RFTConfig) -> Path | None:
    """Where the prompts come from: given, the start model's, or (None) built in."""
    own = start_templates(run.start, run.templates)
    if cfg.principles or run.templates is not None:
        return own
    return without_principles(own)


def mixture(cfg: RFTConfig, output: Path) -> Iterable[SourceConfig]:
    """The chosen judgments and the general data, each with its share of the rows."""
    if cfg.general_share < 1 and cfg.n_plain + cfg.n_hinted:
        yield SourceConfig(str(output / "chosen.jsonl"), 1 - cfg.general_share or 1.0)
    total = sum(source.weight for source in cfg.general)
    for source in cfg.general if cfg.general_share else ():
        yield replace(source, weight=cfg.general_share * source.weight / total)


def _prepare(run: Run, cfg: RFTConfig) -> None:
    """Everything before the training; nothing where it has been done of the same items."""
    output, report = run.output, run.output / "report.json"
    kind = learned_kind(run.config.start, cfg.kind)
    items = judgeable(load_items(cfg.items, run.config.seed), kind)
    data = RowsHash()
    for item in items:
        data.add(item.digest, item.label)
    if from_first(lambda: _is_of(report, data.hexdigest())):
        return
    plain = _judgments(run, cfg, items, kind, hinted=False)
    hinted = _judgments(run, cfg, items, kind, hinted=True)
    trajectories = [
        trajectory
        for item in items
        for trajectory in reject(item, plain.get(item.id, ()), hinted.get(item.id, ()))
    ]
    chosen = [t for t in trajectories if t.outcome == "chosen"]
    if not chosen and cfg.general_share < 1 and cfg.n_plain + cfg.n_hinted:
        counts = Counter(t.outcome for t in trajectories)
        raise ValueError(
            f"not one of {len(trajectories)} judgments of {len(items)} items can be learned from "
            f"({dict(counts)}); {output / 'samples_plain.jsonl'} has them all: take another judge."
        )
    if is_first():
        prompts = run.load_templates()
        _write(output / "trajectories.jsonl", map(_row, trajectories))
        learned = (demonstration(t, prompts, cfg.principles, kind) for t in chosen)
        _write(output / "chosen.jsonl", learned)
        counts = {"data": data.hexdigest(), **_report(items, trajectories)}
        write_whole(report, json.dumps(counts, indent=2) + "\n")
    share()
    say(f"{report}: {len(chosen)} of {len(trajectories)} judgments chosen.")


def _is_of(report: Path, data: str) -> bool:
    """Whether there is a report, of these items.

    Raises:
        ValueError: it is of others, which the training may have begun to learn from.
    """
    if not report.exists():
        return False
    if json.loads(report.read_text()).get("data", data) != data:
        raise ValueError(
            f"{report} is of other items than there are now, and the training has learned from "
            "those: give another output, or put the items back."
        )
    return True


def _judgments(
    run: Run, cfg: RFTConfig, items: list[Example], kind: Learns, *, hinted: bool
) -> dict[str, tuple[Judgment, ...]]:
    """The judgments of one kind, by item."""
    k = cfg.n_hinted if hinted else cfg.n_plain
    if not k:
        return {}
    config = (cfg.hinted_judge or cfg.judge) if hinted else cfg.judge
    # Hinted judgments have a seed of their own: other samples than the plain ones.
    name = "hinted" if hinted else "plain"
    judge = run.open_judge(config, name, kind=kind, hinted=hinted)
    sampled = collect(judge, items, k, run.output / f"samples_{name}.jsonl", name=f"rft {name}")
    return {row.example.id: row.judgments for row in sampled}


def demonstration(
    trajectory: Trajectory, templates: Templates, principles: bool, kind: Learns = "grm"
) -> dict[str, str]:
    """A chosen judgment as {prompt, completion}: as its judge saw the item, but without a hint."""
    example, judgment = trajectory.example, trajectory.judgment
    (turn,) = Asking(templates, kind, training=True).messages(example, judgment.order)
    text = judgment.text
    if not principles:
        text = text[text.index(judgment.principles) + len(judgment.principles) :].lstrip()
    return {"prompt": turn.content, "completion": text}


def _row(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as a line to be looked at."""
    example, judgment = trajectory.example, trajectory.judgment
    return {
        "id": example.id,
        "outcome": trajectory.outcome,
        "reason": judgment.reason,
        "hinted": trajectory.hinted,
        "sample": judgment.sample,
        "query": example.prompt[-1].content,
        "responses": [example.responses[i] for i in judgment.order],
        "best": None if example.n == 1 else judgment.order.index(example.label or 0),
        "label": example.label,
        "scores": judgment.scores and [judgment.scores[i] for i in judgment.order],
        "text": judgment.text,
    }


def _report(items: Sequence[Example], trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """How many judgments had which outcome, plain and hinted, and by the number of responses."""
    sizes = sorted({item.n for item in items})
    chosen = {t.example.id for t in trajectories if t.outcome == "chosen"}
    return {
        "items": len(items),
        "items_with_a_chosen_judgment": len(chosen),
        "plain": dict(Counter(t.outcome for t in trajectories if not t.hinted)),
        "hinted": dict(Counter(t.outcome for t in trajectories if t.hinted)),
        "by_responses": {
            n: dict(Counter(t.outcome for t in trajectories if t.example.n == n)) for n in sizes
        },
    }


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(map(json_line, rows)), encoding="utf-8")
