"""What all stages of training share: the run's settings, its open folder, the exported model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from grm_jax.judging.folder import Learns
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.models import hf
from grm_jax.models.model import Model
from grm_jax.sharding import make_mesh
from grm_jax.text.prompts import Templates, load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.checkpoint import CheckpointConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.finite import check_finite
from grm_jax.train.folder import run_folder
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.start import start_settings, start_templates, start_tokenizer
from grm_jax.train.step import check_rows
from grm_jax.train.tracking import TrackingConfig


@dataclass(frozen=True)
class RunConfig:
    """A training run: where it starts from, and where its results go.

    Args:
        output: the run's folder. The same command continues what is there.
        start: the model that is trained: a model folder, a hub id, a bundled model, or a
            `checkpoints` folder of another run; or "new:SIZE" for random weights (tiny-quarter,
            tiny-half, tiny, small, medium, 2b, 9b, 27b).
        tokenizer: a folder or hub id; by default that of `start`.
        templates: a folder of prompt templates; by default that of the model in `start`, or the
            built-in ones.
        seed: of initial weights, sampling and shuffling, and of the world's items.

    Raises:
        ValueError: a seed outside its range.
    """

    output: str = "runs/train"
    start: str = "tiny-start"
    tokenizer: str | None = None
    templates: str | None = None
    seed: int = 0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}; give 0 to {2**31 - 1}.")


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


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every stage has of its own: how it computes, when it saves, what it exports."""

    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    export: ExportConfig = field(default_factory=ExportConfig)


@dataclass(frozen=True)
class Run:
    """An open run: its settings, and what a stage makes of them before it trains.

    `output` is held by this process; `templates` is None for the built-in ones.
    """

    config: RunConfig
    training: TrainingConfig
    output: Path
    mesh: Mesh
    tokenizer: Tokenizer
    templates: Path | None

    def load_templates(self) -> Templates:
        """The prompt templates."""
        return load_templates(self.templates)

    def seed_of(self, name: str) -> int:
        """The seed of one part of the run: stages see the same source in unrelated orders."""
        digest = hashlib.sha256(f"{self.config.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def open_judge(
        self, config: JudgeConfig, name: str, *, kind: Learns | None = None, hinted: bool = False
    ) -> SampleSource:
        """The judge of a config, by default the start model, with the seed of the part `name`.

        kind: where the config names none.
        """
        return open_judge(
            replace(config, kind=config.kind or kind),
            self.config.start,
            seed=self.seed_of(name),
            hinted=hinted,
            templates=None if self.templates is None else str(self.templates),
            mesh=self.training.compute.mesh,
        )


@contextmanager
def open_run(
    command: str,
    run: RunConfig,
    training: TrainingConfig,
    *,
    rows: int,
    templates: Path | None = None,
) -> Iterator[Run]:
    """Checks what a run needs and holds its folder.

    Args:
        command: such as "grm train sft".
        training: the stage's settings; all of them are written into the folder.
        rows: of a batch.
        templates: in the place of the run's own ones.

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    keep_freed_memory()
    mesh = make_mesh(training.compute.mesh)
    check_rows(rows, training.compute.microbatches, mesh)
    tokenizer = start_tokenizer(run.start, run.tokenizer)
    templates = templates or start_templates(run.start, run.templates)
    with run_folder(command, run.output, run, training) as output:
        yield Run(run, training, output, mesh, tokenizer, templates)


def export(run: Run, model: Model, params: Any, *, kind: str = "grm", **settings: Any) -> Path:
    """Writes the trained model to the folder `model` of the run.

    Args:
        kind: of judge.
        settings: for grm.json, besides the kind and how long judges write.

    Raises:
        ValueError: weights are not finite; nothing is written.
    """
    config, folder = run.training.export, run.output / "model"
    model = replace(model, param_dtype=config.dtype)
    params = jax.tree.map(lambda p: p.astype(config.dtype), params)
    check_finite(params, f"{folder} is not written: what was trained")
    limit = config.max_new_tokens or start_settings(run.config.start).get("max_new_tokens")
    if kind != "grm":
        settings = {"kind": kind, **settings}
    extra = {**settings, **({} if limit is None else {"max_new_tokens": limit})}
    hf.save_folder(
        model, params, folder, tokenizer=run.tokenizer, extra=extra, templates=run.templates
    )
    return folder
