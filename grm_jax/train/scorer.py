"""Models that score, made from models that write: what the meta RM and the scalar judges share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grm_jax.data.pipeline import Batch, BatchConfig, TokenRow
from grm_jax.metric_names import CORRECT, TARGETS, TOKENS, TOO_LONG
from grm_jax.models import scalar_head
from grm_jax.models.model import Model
from grm_jax.objectives.scalar import binary_loss
from grm_jax.outputs import write_whole
from grm_jax.processes import is_first
from grm_jax.sharding import TRAIN_RULES, make_mesh, shardings_of
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.checkpoint import CheckpointConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.memory import keep_freed_memory
from grm_jax.train.optimizer import OptimizerConfig, make_schedule
from grm_jax.train.sft import ExportConfig, StageConfig, train_stage
from grm_jax.train.start import load_start, start_templates, start_tokenizer
from grm_jax.train.step import Metrics, SumLoss, check_rows
from grm_jax.train.tracking import TrackingConfig

# The norms after a new layer's attention and feed-forward, as offsets from 1: it adds a tenth.
FAINT = -0.9


@dataclass(frozen=True)
class ScorerConfig:
    """Training of a model with a scalar head.

    Args:
        output: the run's folder. The same command continues what is there.
        start: whose trunk it starts from.
        tokenizer: a folder or hub id; by default that of `start`.
        templates: a folder of prompt templates; by default that of the model in `start`.
        grow: pairs of layers put on top of the trunk, which begin as next to nothing. A trunk that
            predicts a token with its last layer has no layer left to compare it with what came.
        heldout_share: of the items, kept out of the training to measure it.
        steps: updates. batch: rows x length tokens per update, several sequences in a row.
        seed: of sampling and shuffling, and of the world's items.

    Raises:
        ValueError: a value outside its range.
    """

    output: str = "runs/scorer"
    start: str = "tiny"
    tokenizer: str | None = None
    templates: str | None = None
    grow: int = 0
    heldout_share: float = 0.1
    steps: int = 500
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 0
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        if self.grow < 0:
            raise ValueError(f"grow is {self.grow}; give 0 (the trunk as it is) or more pairs.")
        if not 0 < self.heldout_share < 1:
            raise ValueError(
                f"heldout_share is {self.heldout_share}; some items must be kept out, and some "
                "learned from: give more than 0 and less than 1."
            )
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more.")
        make_schedule(self.optimizer, self.steps)


def begin(cfg: ScorerConfig) -> tuple[Tokenizer, Path | None]:
    """The run's tokenizer, and where its templates are (None: built in).

    Raises:
        ValueError, FileNotFoundError: what does not fit, and what to do.
    """
    keep_freed_memory()
    check_rows(cfg.batch.rows, cfg.compute.microbatches, make_mesh(cfg.compute.mesh))
    return start_tokenizer(cfg.start, cfg.tokenizer), start_templates(cfg.start, cfg.templates)


def train_scorer(
    cfg: ScorerConfig,
    make_loss: Callable[..., SumLoss],
    stream: grain.DatasetIterator[Batch],
    tokenizer: Tokenizer,
    *,
    name: str,
) -> tuple[Model, Any] | None:
    """Minimises a loss of a scalar head on the trunk of `cfg.start`, from where it was stopped.

    make_loss: `SumLoss` of a model, with `remat`.

    Returns:
        The model and its weights; None if a signal stopped it before the last step.
    """
    mesh = make_mesh(cfg.compute.mesh)
    with jax.set_mesh(mesh):
        model, load = load_start(cfg.start, tokenizer, mesh, dtype=cfg.compute.dtype, seed=cfg.seed)
        scalar = grown(model, cfg.grow)
        return train_stage(
            scalar,
            lambda: with_head(scalar, load(), mesh, cfg.seed),
            make_loss(scalar, remat=cfg.compute.remat),
            StageConfig(cfg.steps, optimizer=cfg.optimizer),
            stream,
            mesh=mesh,
            folder=Path(cfg.output),
            name=name,
            microbatches=cfg.compute.microbatches,
            checkpoint=cfg.checkpoint,
            tracking=cfg.tracking,
        )


def scored_row(ids: list[int], label: bool, first: int | None = None) -> TokenRow:
    """A sequence whose score is to say a label: at its last token, or at all from `first` on."""
    # One token more, which is never fed, since a row's targets begin at its second token.
    fed = np.array([*ids, 0], np.int32)
    learned = np.arange(len(fed)) >= (len(ids) if first is None else first + 1)
    return TokenRow(fed, learned, np.full(len(ids), int(label), np.int32))


def label_loss(model: Model, *, remat: bool = False) -> SumLoss:
    """The loss of `make_step`: summed binary cross-entropy over the batch's labels."""

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Metrics]:
        hidden = model.hidden(params, batch.tokens, batch.positions, batch.segments, remat=remat)
        scores = scalar_head.score_all(params["score"], hidden)
        value, count = binary_loss(scores, batch.targets, batch.mask)
        total = count.sum()
        right = jnp.where(batch.mask, (scores > 0) == (batch.targets > 0), False)
        return (
            value.sum(),
            total,
            {
                TOKENS: jnp.sum(batch.positions >= 0),
                TARGETS: total,
                "data/right": jnp.sum(jnp.where(batch.mask, batch.targets, 0)),
                TOO_LONG: jnp.sum(batch.too_long),
                CORRECT: right.sum(),
            },
        )

    return loss


def is_heldout(item: str, share: float) -> bool:
    """The side of an item, by a hash of its id: all that is made of it is on one side."""
    digest = hashlib.sha256(f"meta {item}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def grown(model: Model, pairs: int) -> Model:
    """The model with a scalar head, and so many pairs of layers more."""
    layers = model.config.num_layers + 2 * pairs
    return replace(model.as_head("scalar"), config=replace(model.config, num_layers=layers))


def with_head(scalar: Model, trunk: Any, mesh: Mesh, seed: int) -> Any:
    """The trunk's weights, below new pairs of layers and a new head where `scalar` has more."""

    def join(trunk: Any, key: jax.Array) -> Any:
        new = scalar.init(key)
        depth = jax.tree.leaves(trunk["pairs"])[0].shape[0]
        for layer in new["pairs"].values():
            for name in ("post_attn_norm", "post_mlp_norm"):
                layer[name] = jnp.full_like(layer[name], FAINT)
        pairs = jax.tree.map(
            lambda old, made: jnp.concatenate([old, made[depth:]]), trunk["pairs"], new["pairs"]
        )
        return {**trunk, "pairs": pairs, "score": new["score"]}

    places = shardings_of(scalar.axes(), mesh, TRAIN_RULES)
    return jax.jit(join, out_shardings=places)(trunk, jax.random.key(seed))


def write_report(output: Path, report: Mapping[str, Any]) -> Path:
    """Writes `output/report.json`, whole or not at all; says where it is."""
    path = output / "report.json"
    if is_first():
        write_whole(path, json.dumps(report, indent=2) + "\n")
    return path
