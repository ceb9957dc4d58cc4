"""Supervised fine-tuning: `grm train sft`, the stage that the others are built on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import grain
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from grm_jax.data.demonstrations import SourceConfig, open_source
from grm_jax.data.pipeline import Batch, BatchConfig, make_stream
from grm_jax.judging.folder import Learns
from grm_jax.metric_names import TARGET_TOKENS, TOKENS, TOO_LONG
from grm_jax.models import hf
from grm_jax.models.model import Model
from grm_jax.objectives.logprobs import token_logprobs
from grm_jax.objectives.rft import rft_loss
from grm_jax.processes import is_first, say
from grm_jax.sharding import make_mesh
from grm_jax.text.prompts import Templates, load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.checkpoint import CheckpointConfig, Checkpoints
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.finite import check_finite
from grm_jax.train.fit import fit
from grm_jax.train.folder import claimed
from grm_jax.train.guard import Guard
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.optimizer import OptimizerConfig, make_optimizer, make_schedule
from grm_jax.train.start import (
    learned_kind,
    load_start,
    start_settings,
    start_templates,
    start_tokenizer,
)
from grm_jax.train.state import abstract_state, new_state, state_shardings
from grm_jax.train.step import (
    Metrics,
    SumLoss,
    batch_sharding,
    check_rows,
    compile_step,
    make_step,
)
from grm_jax.train.tracking import Tracker, TrackingConfig


@dataclass(frozen=True)
class StageConfig:
    """One pass of training: so many updates on a mix of sources, with an optimiser of its own.

    Raises:
        ValueError: no step, or no source.
    """

    steps: int
    data: tuple[SourceConfig, ...] = (SourceConfig(),)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more.")
        if not self.data:
            raise ValueError("data is empty: name at least one source.")
        make_schedule(self.optimizer, self.steps)


@dataclass(frozen=True)
class ExportConfig:
    """The model folder that is written at the end: its weights' type, and how long judges write.

    Raises:
        ValueError: max_new_tokens is not positive.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"export.max_new_tokens is {self.max_new_tokens}; give 1 or more.")


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning in one or more stages.

    Args:
        output: the run's folder. The same command continues what is there.
        stages: by name, one after another; each has its folder in `output`.
        start: "new:SIZE" for random weights (tiny-quarter, tiny-half, tiny, small, medium, 2b,
            9b, 27b); or a model folder, a hub id, "tiny" (bundled), or a `checkpoints` folder of
            another run.
        tokenizer: a folder or hub id; by default that of `start`.
        templates: a folder of prompt templates; by default that of the model in `start`, or the
            built-in ones.
        kind: the kind of judge that the model folder is then used as; by default that of `start`.
        batch: rows x length tokens per update, over all devices.
        compute: devices, memory and precision.
        seed: of the initial weights, the world's items, and the order of the rows.

    Raises:
        ValueError: a value outside its range.
    """

    output: str
    stages: dict[str, StageConfig]
    start: str = "new:tiny"
    tokenizer: str | None = None
    templates: str | None = None
    kind: Learns | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    seed: int = 0
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty: name at least one, such as stages.sft.steps.")
        for name in self.stages:
            if not re.fullmatch(r"[\w-]+", name) or name == "model":
                raise ValueError(
                    f"the stage name {name!r} becomes a folder beside `model`: use letters, "
                    "digits, _ and -."
                )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}; give 0 to {2**31 - 1}.")


def run(cfg: SFTConfig) -> Path | None:
    """Trains all stages, or what is left of them, and writes the model folder `output/model`.

    Returns:
        The model folder; None if a signal ended the run early (the same command continues it).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    with claimed(cfg, "grm train sft"):
        return train(cfg)


def train(cfg: SFTConfig) -> Path | None:
    """As `run`, in a folder that is claimed already (by a stage that prepares its data)."""
    keep_freed_memory()
    output, mesh = Path(cfg.output), make_mesh(cfg.compute.mesh)
    check_rows(cfg.batch.rows, cfg.compute.microbatches, mesh)
    tokenizer = start_tokenizer(cfg.start, cfg.tokenizer)
    templates = start_templates(cfg.start, cfg.templates)
    prompts, settings = load_templates(templates), kind_setting(learned_kind(cfg.start, cfg.kind))
    start, weights = cfg.start, None
    for name, stage in cfg.stages.items():
        with jax.set_mesh(mesh):
            weights = _run_stage(cfg, name, stage, start, mesh, tokenizer, prompts)
        if weights is None:
            return None
        start = str(output / name / "checkpoints")
    assert weights is not None  # there is at least one stage
    folder = output / "model"
    return export(*weights, folder, cfg.export, cfg.start, tokenizer, templates, settings)


def kind_setting(kind: Learns) -> dict[str, Any]:
    """What grm.json says of a kind of judge: nothing where it is the usual one."""
    return {} if kind == "grm" else {"kind": kind}


def export(
    model: Model,
    params: Any,
    folder: Path,
    config: ExportConfig,
    start: str,
    tokenizer: Tokenizer,
    templates: Path | None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the model folder of a finished stage; `start` tells how long judges write.

    settings: what else grm.json is to say.

    Raises:
        ValueError: weights are not finite; nothing is written.
    """
    model = replace(model, param_dtype=config.dtype)
    params = jax.tree.map(lambda p: p.astype(config.dtype), params)
    check_finite(params, f"{folder} is not written: what was trained")
    limit = config.max_new_tokens or start_settings(start).get("max_new_tokens")
    extra = {**(settings or {}), **({} if limit is None else {"max_new_tokens": limit})}
    hf.save_folder(model, params, folder, tokenizer=tokenizer, extra=extra, templates=templates)
    return folder


def sft_loss(model: Model, *, chunk: int, remat: bool = False) -> SumLoss:
    """The loss of `make_step`: summed negative log-likelihood of the batch's target tokens."""

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Metrics]:
        hidden = model.hidden(params, batch.tokens, batch.positions, batch.segments, remat=remat)
        found = token_logprobs(model, params, hidden, batch.targets, chunk=chunk)
        nll, count = rft_loss(found.logprob, batch.mask)
        total = count.sum()
        return (
            nll.sum(),
            total,
            {
                TOKENS: jnp.sum(batch.positions >= 0),
                TARGET_TOKENS: total,
                TOO_LONG: jnp.sum(batch.too_long),
            },
        )

    return loss


def stage_seed(seed: int, stage: str) -> int:
    """The seed of a stage's shuffle: stages see the same source in unrelated orders."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stage}".encode()).digest()[:4], "big")


def _run_stage(
    cfg: SFTConfig,
    name: str,
    stage: StageConfig,
    start: str,
    mesh: Mesh,
    tokenizer: Tokenizer,
    templates: Templates,
) -> tuple[Model, Any] | None:
    """Trains one stage from where its checkpoints end; its model and weights, None if stopped."""
    model, make_params = load_start(start, tokenizer, mesh, dtype=cfg.compute.dtype, seed=cfg.seed)
    if cfg.batch.length > model.config.max_position:
        raise ValueError(
            f"batch.length is {cfg.batch.length}, but the model reads at most "
            f"{model.config.max_position} positions: give that or less."
        )
    sources = [(open_source(s, tokenizer, templates, cfg.seed), s.weight) for s in stage.data]
    return train_stage(
        model,
        make_params,
        sft_loss(model, chunk=cfg.compute.logits_chunk, remat=cfg.compute.remat),
        stage,
        make_stream(sources, cfg.batch, seed=stage_seed(cfg.seed, name)),
        mesh=mesh,
        folder=Path(cfg.output) / name,
        name=name,
        microbatches=cfg.compute.microbatches,
        checkpoint=cfg.checkpoint,
        tracking=cfg.tracking,
    )


def train_stage(
    model: Model,
    make_params: Callable[[], Any],
    loss: SumLoss,
    stage: StageConfig,
    stream: grain.DatasetIterator[Batch],
    *,
    mesh: Mesh,
    folder: Path,
    name: str,
    microbatches: int,
    checkpoint: CheckpointConfig,
    tracking: TrackingConfig,
) -> tuple[Model, Any] | None:
    """Minimises a loss over a stream of batches, from where the folder's checkpoints end.

    Returns:
        The model and its weights after the last step; None if a signal stopped it before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schedule = make_schedule(stage.optimizer, stage.steps)
    optimizer = make_optimizer(stage.optimizer, schedule, model.axes())
    places = state_shardings(model, optimizer, mesh)
    step = make_step(loss, optimizer, schedule, microbatches=microbatches)
    with Checkpoints(folder / "checkpoints", checkpoint, model) as checkpoints:
        done = checkpoints.latest or 0
        if done:
            state = checkpoints.restore(abstract_state(model, optimizer, places), stream)
        else:
            begin = jax.jit(
                lambda p: new_state(p, optimizer), out_shardings=places, donate_argnums=0
            )
            state = begin(make_params())
        tracker = Tracker(
            folder if is_first() else None, tracking, start=done, total=stage.steps, name=name
        )
        try:
            state, done = fit(
                state,
                compile_step(step, places, mesh),
                stream,
                batch_sharding(mesh),
                start=done,
                steps=stage.steps,
                checkpoints=checkpoints,
                tracker=tracker,
                guard=Guard(folder if is_first() else None),
            )
        finally:
            tracker.close()
            stream.close()
    if done < stage.steps:
        say(
            f"Stopped after step {done} of {stage.steps} of the stage {name}; the same command "
            "continues from there."
        )
        return None
    return model, state.params
