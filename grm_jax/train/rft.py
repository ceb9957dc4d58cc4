"""Rejective fine-tuning: `grm train rft`, the first stage of SPCT.

Sample judgments (plain, and once with the best response named), keep those that are right of items
that are not too easy, mix them with general instruction data, fine-tune.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grm_jax.data.demonstrations import SourceConfig
from grm_jax.data.items import ItemsConfig, load_items
from grm_jax.data.pipeline import BatchConfig
from grm_jax.fingerprint import RowsHash
from grm_jax.judging.collect import collect
from grm_jax.judging.folder import Learns
from grm_jax.judging.judgment import Judgment
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.outputs import write_whole
from grm_jax.processes import from_first, is_first, say, wait
from grm_jax.text.json_line import json_line
from grm_jax.text.messages import Example
from grm_jax.text.prompts import Templates, load_templates, render, without_principles
from grm_jax.train import sft
from grm_jax.train.checkpoint import CheckpointConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.folder import claimed
from grm_jax.train.optimizer import OptimizerConfig, make_schedule
from grm_jax.train.rejection import Trajectory, reject
from grm_jax.train.rollout import judgeable
from grm_jax.train.sft import ExportConfig, SFTConfig, StageConfig
from grm_jax.train.start import learned_kind, start_templates
from grm_jax.train.tracking import TrackingConfig

STAGE = "rft"


@dataclass(frozen=True)
class RFTConfig:
    """Rejective fine-tuning.

    Args:
        output: the run's folder. The same command continues what is there.
        start: the model that is trained: a model folder, a hub id, or a bundled model.
        items: labelled items to judge.
        kind: what is trained: "grm", or "judge" (LLM-as-a-Judge: the number of the best response,
            right if it is the labelled one; single responses are left out); by default what
            `start` is. Judgments are asked for in the same way.
        judge: who writes the plain judgments (the paper took another, pretrained GRM).
        hinted_judge: who writes the hinted ones; by default the same.
        n_plain: plain judgments per item, N_RFT (paper: 3; 0: none).
        n_hinted: hinted judgments per item (paper: 1; 0: none).
        principles: False asks for none, and strips them from what is learned. Prompts without any
            are in no_principles/ beside the start's own ones, or built in.
        general: general instruction data; weights are relative to each other.
        general_share: its share of all rows (paper: 1070K of 1256K; 0: none).
        steps: updates. batch: rows x length tokens per update.
        templates: prompt templates; by default those of `start`, or the built-in ones.
        seed: of sampling and shuffling, and of the world's items.
    """

    output: str = "runs/rft"
    start: str = "tiny-start"
    tokenizer: str | None = None
    templates: str | None = None
    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    kind: Learns | None = None
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    hinted_judge: JudgeConfig | None = None
    n_plain: int = 3
    n_hinted: int = 1
    principles: bool = True
    general: tuple[SourceConfig, ...] = ()
    general_share: float = 0.0
    steps: int = 900
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 0
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        if self.n_plain < 0 or self.n_hinted < 0:
            raise ValueError(
                f"n_plain is {self.n_plain} and n_hinted is {self.n_hinted}; give 0 (none) or more."
            )
        if not 0 <= self.general_share <= 1:
            raise ValueError(f"general_share is {self.general_share}; it is a share: give 0 to 1.")
        if self.general_share and not self.general:
            raise ValueError(f"general_share is {self.general_share}, but general names no data.")
        if not self.n_plain + self.n_hinted and not self.general_share:
            raise ValueError("no plain and no hinted judgments, and general_share is 0: no data.")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more.")
        make_schedule(self.optimizer, self.steps)


def run(cfg: RFTConfig) -> Path | None:
    """Samples, rejects and trains, or does what is left of it; writes `output/model`.

    Beside it: samples_plain.jsonl and samples_hinted.jsonl (what judges wrote), trajectories.jsonl
    (each judgment with its outcome), chosen.jsonl (what is learned), report.json (counts).

    Returns:
        The model folder; None if a signal ended the training early.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    templates = _templates(cfg)
    with claimed(cfg, "grm train rft") as output:
        _prepare(cfg, output, templates)
        return sft.train(_training(cfg, output, templates))


def _training(cfg: RFTConfig, output: Path, templates: Path | None) -> SFTConfig:
    """The fine-tuning on what was chosen."""
    return SFTConfig(
        output=cfg.output,
        start=cfg.start,
        tokenizer=cfg.tokenizer,
        templates=None if templates is None else str(templates),
        kind=cfg.kind,
        stages={STAGE: StageConfig(cfg.steps, tuple(_mix(cfg, output)), cfg.optimizer)},
        batch=cfg.batch,
        compute=cfg.compute,
        seed=cfg.seed,
        checkpoint=cfg.checkpoint,
        tracking=cfg.tracking,
        export=cfg.export,
    )


def _templates(cfg: RFTConfig) -> Path | None:
    """Where the prompts come from: given, the start model's, or (None) built in."""
    own = start_templates(cfg.start, cfg.templates)
    if cfg.principles or cfg.templates is not None:
        return own
    return without_principles(own)


def _mix(cfg: RFTConfig, output: Path) -> Iterable[SourceConfig]:
    """The chosen judgments and the general data, each with its share of the rows."""
    if cfg.general_share < 1 and cfg.n_plain + cfg.n_hinted:
        yield SourceConfig(str(output / "chosen.jsonl"), 1 - cfg.general_share or 1.0)
    total = sum(source.weight for source in cfg.general)
    for source in cfg.general if cfg.general_share else ():
        yield replace(source, weight=cfg.general_share * source.weight / total)


def _prepare(cfg: RFTConfig, output: Path, templates: Path | None) -> None:
    """Everything before the training; nothing where it has been done of the same items."""
    report = output / "report.json"
    kind = learned_kind(cfg.start, cfg.kind)
    items = judgeable(load_items(cfg.items, cfg.seed), kind)
    data = RowsHash()
    for item in items:
        data.add(item.digest, item.label)
    if from_first(lambda: _is_of(report, data.hexdigest())):
        return
    plain = _judgments(cfg, items, output, templates, hinted=False)
    hinted = _judgments(cfg, items, output, templates, hinted=True)
    found = [
        trajectory
        for item in items
        for trajectory in reject(item, plain.get(item.id, ()), hinted.get(item.id, ()))
    ]
    chosen = [t for t in found if t.outcome == "chosen"]
    if not chosen and cfg.general_share < 1 and cfg.n_plain + cfg.n_hinted:
        counts = Counter(t.outcome for t in found)
        raise ValueError(
            f"not one of {len(found)} judgments of {len(items)} items can be learned from "
            f"({dict(counts)}); {output / 'samples_plain.jsonl'} has them all: take another judge."
        )
    if is_first():
        prompts = load_templates(templates)
        _write(output / "trajectories.jsonl", map(_told, found))
        learned = (demonstration(t, prompts, cfg.principles, kind) for t in chosen)
        _write(output / "chosen.jsonl", learned)
        told = {"data": data.hexdigest(), **_report(items, found)}
        write_whole(report, json.dumps(told, indent=2) + "\n")
    wait()
    say(f"{report}: {len(chosen)} of {len(found)} judgments chosen.")


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
    cfg: RFTConfig, items: list[Example], output: Path, templates: Path | None, *, hinted: bool
) -> dict[str, tuple[Judgment, ...]]:
    """The judgments of one kind, by item."""
    k = cfg.n_hinted if hinted else cfg.n_plain
    if not k:
        return {}
    config = (cfg.hinted_judge or cfg.judge) if hinted else cfg.judge
    judge = open_judge(
        replace(config, kind=config.kind or learned_kind(cfg.start, cfg.kind)),
        cfg.start,
        # Hinted judgments are other samples than plain ones, not the same with other words.
        seed=sft.stage_seed(cfg.seed, "hinted" if hinted else "plain"),
        hinted=hinted,
        templates=None if templates is None else str(templates),
        mesh=cfg.compute.mesh,
    )
    name = "hinted" if hinted else "plain"
    found = collect(judge, items, k, output / f"samples_{name}.jsonl", name=f"rft {name}")
    return {sampled.example.id: sampled.judgments for sampled in found}


def demonstration(
    trajectory: Trajectory, templates: Templates, principles: bool, kind: Learns = "grm"
) -> dict[str, str]:
    """A chosen judgment as {prompt, completion}: as its judge saw the item, but without a hint."""
    example, judgment = trajectory.example, trajectory.judgment
    template = templates.asking(kind, example.n, training=True)
    (turn,) = render(example.permuted(judgment.order), template)
    text = judgment.text
    if not principles:
        text = text[text.index(judgment.principles) + len(judgment.principles) :].lstrip()
    return {"prompt": turn.content, "completion": text}


def _told(trajectory: Trajectory) -> dict[str, Any]:
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


def _report(items: Sequence[Example], found: Sequence[Trajectory]) -> dict[str, Any]:
    """How many judgments had which outcome, plain and hinted, and by the number of responses."""
    sizes = sorted({item.n for item in items})
    chosen = {t.example.id for t in found if t.outcome == "chosen"}
    return {
        "items": len(items),
        "items_with_a_chosen_judgment": len(chosen),
        "plain": dict(Counter(t.outcome for t in found if not t.hinted)),
        "hinted": dict(Counter(t.outcome for t in found if t.hinted)),
        "by_responses": {
            n: dict(Counter(t.outcome for t in found if t.example.n == n)) for n in sizes
        },
    }


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(map(json_line, rows)), encoding="utf-8")
