"""Supervised fine-tuning: `grm train sft`, in one or more stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from grm_jax.copies import kept_at
from grm_jax.data.config import BatchConfig
from grm_jax.data.demonstrations import open_source
from grm_jax.data.pipeline import Batch, make_stream
from grm_jax.judging.kinds import Learns
from grm_jax.metric_names import TARGET_TOKENS, TOKENS, TOO_LONG
from grm_jax.models.config import Remat
from grm_jax.models.model import Model
from grm_jax.objectives.config import RouterLossConfig
from grm_jax.objectives.rft import rft_loss
from grm_jax.objectives.routing import watched_hidden, with_router_loss
from grm_jax.places import Where
from grm_jax.train.config import RunConfig
from grm_jax.train.export import export
from grm_jax.train.loop import train_stage
from grm_jax.train.run import Run, open_run
from grm_jax.train.stages.sft import SFTConfig, StageConfig
from grm_jax.train.start import learned_kind, load_start
from grm_jax.train.step import Metrics, SumLoss


def run(run: RunConfig, cfg: SFTConfig) -> Path | None:
    """Trains all stages, or what is left of them, and writes the model folder `output/model`.

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    with open_run("grm train sft", run, cfg, sequences=cfg.batch.sequences) as opened:
        return train(opened, cfg.stages, cfg.batch, cfg.kind)


def train(
    run: Run, stages: Mapping[str, StageConfig], batch: BatchConfig, kind: Learns | None
) -> Path | None:
    """As `run`, in an open run (whose data another stage may have prepared)."""
    kind, before, trained = learned_kind(run.config.start, kind), None, None
    for name, stage in stages.items():
        trained = _train_stage(run, name, stage, batch, before)
        if trained is None:
            return None
        before = kept_at(run.output / name / "checkpoints")
    assert trained is not None  # there is at least one stage
    return export(run, *trained, kind=kind)


def sft_loss(
    model: Model, *, chunk: int, remat: Remat = "none", router: RouterLossConfig | None = None
) -> SumLoss:
    """The loss of `make_step`: summed negative log-likelihood of the batch's target tokens.

    router: what is added of a model with experts, whose loads are reported; None: neither.
    """

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Metrics]:
        rows = batch.tokens, batch.positions, batch.segments
        hidden, seen = watched_hidden(model, params, *rows, remat=remat, router=router)
        nll, total = rft_loss(model, params, hidden, batch.targets, batch.mask, chunk=chunk)
        value, gates = with_router_loss(nll, batch.mask.sum(-1, nll.dtype), seen, router)
        return (
            value,
            total,
            {
                **gates,
                TOKENS: jnp.sum(batch.positions >= 0),
                TARGET_TOKENS: total,
                TOO_LONG: jnp.sum(batch.too_long),
            },
        )

    return loss


def _train_stage(
    run: Run, name: str, stage: StageConfig, batch: BatchConfig, before: Where | None
) -> tuple[Model, Any] | None:
    """Trains one stage from where its checkpoints end, or those of the stage before; its model and
    what was trained, None if stopped."""
    compute, seed, adapter = run.training.compute, run.config.seed, run.config.adapter.rank > 0
    start = run.config.start if before is None or adapter else str(before)
    with jax.set_mesh(run.mesh):
        model, make_params = load_start(
            start, run.tokenizer, run.mesh, dtype=compute.dtype, seed=seed, adapter=adapter
        )
        if batch.length > model.config.max_position:
            raise ValueError(
                f"batch.length is {batch.length}, but the model reads at most "
                f"{model.config.max_position} positions: give that or less."
            )
        templates = run.load_templates()
        sources = [(open_source(s, run.tokenizer, templates, seed), s.weight) for s in stage.data]
        params = train_stage(
            run,
            model,
            make_params,
            sft_loss(
                model,
                chunk=compute.logits_chunk,
                remat=compute.remat,
                router=run.training.router_loss,
            ),
            make_stream(sources, batch, seed=run.seed_of(name)),
            stage.optimizer,
            steps=stage.steps,
            folder=run.output / name,
            name=name,
            before=before,
        )
    return None if params is None else (model, params)
