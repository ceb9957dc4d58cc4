"""The meta RM: `grm train meta-rm`, a scalar model that tells right judgments from wrong ones.

Pointwise binary cross-entropy on equation 10's label, from judgments that were sampled without a
hint: those of rejective fine-tuning, and fresh ones of the GRM that it will guide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from grm_jax.data.items import load_items
from grm_jax.data.pipeline import TokenRow, make_stream
from grm_jax.evals.ranking import Ranking, rank
from grm_jax.judging.collect import collect
from grm_jax.judging.folder import load_model_folder
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.meta import MetaRM, meta_reading
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples
from grm_jax.places import at_hand
from grm_jax.processes import say
from grm_jax.text.prompts import Template
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.config import RunConfig
from grm_jax.train.export import export
from grm_jax.train.run import Run, open_run
from grm_jax.train.scorer import is_heldout, label_loss, scored_row, train_scorer, write_report
from grm_jax.train.stages.scorer import MetaRMConfig

STAGE = "meta_rm"


def run(run: RunConfig, cfg: MetaRMConfig) -> Path | None:
    """Samples, trains and measures, or does what is left of it; writes `output/model`.

    Beside it: samples.jsonl (fresh judgments), metrics.jsonl, report.json (class balance, and on
    held-out items AUC overall and within an item, calibration).

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    with open_run("grm train meta-rm", run, cfg, sequences=cfg.batch.sequences) as opened:
        return _run(opened, cfg)


def _run(run: Run, cfg: MetaRMConfig) -> Path | None:
    """As `run`, in an open run."""
    sides: dict[bool, list[Sampled]] = {True: [], False: []}
    for sampled in _judgments(run, cfg):
        sides[is_heldout(sampled.example.id, cfg.heldout_share)].append(sampled)
    prompt = run.load_templates().meta
    rows = [
        ScoredRows(sides[False], run.tokenizer, prompt, label, cfg.supervise == "all")
        for label in _labels(cfg)
    ]
    _check_sides(sides, cfg.heldout_share)
    stream = make_stream([(part, 1.0) for part in rows], cfg.batch, seed=run.seed_of(STAGE))
    trained = train_scorer(run, cfg, label_loss, stream, name=STAGE)
    if trained is None:
        return None
    folder = export(run, *trained)
    _report(cfg, run.output, folder, sides)
    return folder


class ScoredRows:
    """Judgments as token rows for the pipeline: what the meta RM reads, and the label as target.

    Args:
        label: only judgments with this label; None takes both.
        everywhere: the label is the target at every token of the judgment, not at the last alone.
    """

    def __init__(
        self,
        sampled: Sequence[Sampled],
        tokenizer: Tokenizer,
        template: Template,
        label: bool | None = None,
        everywhere: bool = False,
    ):
        self.everywhere = everywhere
        self.sampled, self.tokenizer, self.template = sampled, tokenizer, template
        self.places = [
            (i, j, right)
            for i, row in enumerate(sampled)
            for j, right in enumerate(labels(row))
            if right is not None and label in (None, right)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> TokenRow:
        i, j, right = self.places[index]
        row = self.sampled[i]
        reading = meta_reading(self.tokenizer, self.template, row.example, row.judgments[j])
        first = len(reading.prompt) if self.everywhere else None
        return scored_row(reading.tokens, right, first)


def labels(sampled: Sampled) -> list[bool | None]:
    """Whether each judgment is right by equation 10; None if it has no scores and cannot count."""
    label = sampled.example.label
    assert label is not None
    return [None if j.scores is None else is_correct(j.scores, label) for j in sampled.judgments]


def _judgments(run: Run, cfg: MetaRMConfig) -> Iterator[Sampled]:
    """Those of the files, then fresh ones."""
    for path in cfg.samples:
        yield from (row for row in read_samples(at_hand(path)) if isinstance(row, Sampled))
    if cfg.n:
        judge = run.open_judge(cfg.judge, STAGE)
        items = load_items(cfg.items, run.config.seed)
        yield from collect(
            judge, items, cfg.n, run.output / "samples.jsonl", name="meta-rm samples"
        )


def _labels(cfg: MetaRMConfig) -> tuple[bool | None, ...]:
    """One source of rows, or one for each label."""
    return (None,) if cfg.balance == "natural" else (False, True)


def _check_sides(sides: Mapping[bool, Sequence[Sampled]], share: float) -> None:
    """Before an hour of training, that there is what to train on and what to measure on."""
    classes = {right for row in sides[False] for right in labels(row)}
    if not {True, False} <= classes:
        raise ValueError(
            "the judgments to train on are all right, all wrong or all unreadable: sample more "
            "items, or at a higher temperature."
        )
    if all(right is None for row in sides[True] for right in labels(row)):
        raise ValueError(
            f"heldout_share {share} keeps {len(sides[True])} of "
            f"{len(sides[True]) + len(sides[False])} items to measure on, and none of them has a "
            "judgment that can be read: give more items, or a larger share."
        )


def _report(
    cfg: MetaRMConfig, output: Path, folder: Path, sides: dict[bool, list[Sampled]]
) -> None:
    """Rates the held-out judgments with the written model, and reports how well."""
    judge = MetaRM(load_model_folder(folder), slots=cfg.judge.slots)
    rated = [row for row in judge.rate_all(sides[True]) if isinstance(row, Sampled)]
    ranking = rank([(_rated(row)) for row in rated])
    train = [right for row in sides[False] for right in labels(row) if right is not None]
    report = {
        "train": {
            "items": len(sides[False]),
            "judgments": len(train),
            "right_share": float(np.mean(train)),
            "balance": cfg.balance,
        },
        "heldout": asdict(ranking),
    }
    path = write_report(output, report)
    say(f"{path}: {describe(ranking)}")


def _rated(row: Sampled) -> list[tuple[float, bool]]:
    """(meta score, whether it is right) of every judgment that has both."""
    return [
        (j.meta, right)
        for j, right in zip(row.judgments, labels(row), strict=True)
        if right is not None and j.meta is not None
    ]


def describe(ranking: Ranking) -> str:
    """One sentence on a meta RM; a dash is what so few judgments do not tell."""
    auc, within, error, calibration = (
        "–" if math.isnan(value) else f"{value:.3f}"
        for value in (
            ranking.auc,
            ranking.auc_within,
            ranking.auc_within_error,
            ranking.calibration_error,
        )
    )
    return (
        f"AUC {auc} over {ranking.judgments} held-out judgments, within an item {within} ± {error} "
        f"({ranking.mixed_items} items with right and wrong ones), calibration error {calibration}."
    )
