"""Models that score, made from models that write: what the meta RM and the scalar judges share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grm_jax.data.pipeline import Batch, TokenRow
from grm_jax.metric_names import CORRECT, TARGETS, TOKENS, TOO_LONG
from grm_jax.models import scalar_head
from grm_jax.models.config import Remat
from grm_jax.models.model import Model
from grm_jax.objectives.config import RouterLossConfig
from grm_jax.objectives.routing import watched_hidden, with_router_loss
from grm_jax.objectives.scalar import binary_loss
from grm_jax.outputs import write_whole
from grm_jax.processes import is_first
from grm_jax.randomness import in_share
from grm_jax.sharding import TRAIN_RULES, shardings_of
from grm_jax.train.loop import train_stage
from grm_jax.train.run import Run
from grm_jax.train.stages.scorer import ScorerConfig
from grm_jax.train.start import load_start
from grm_jax.train.step import Metrics, SumLoss

# The norms after a new layer's attention and feed-forward, as offsets from 1: it adds a tenth.
FAINT = -0.9


def train_scorer(
    run: Run,
    cfg: ScorerConfig,
    make_loss: Callable[..., SumLoss],
    stream: grain.DatasetIterator[Batch],
    *,
    name: str,
) -> tuple[Model, Any] | None:
    """Minimises a loss of a scalar head on the trunk of the start model, from where it was stopped.

    make_loss: `SumLoss` of a model, with `remat` and `router`.

    Returns:
        The model and its weights; None if a signal stopped it before the last step.
    """
    start, seed, adapter = run.config.start, run.config.seed, run.config.adapter.rank > 0
    if adapter and cfg.grow:
        raise ValueError(
            f"grow is {cfg.grow}, and adapter.rank is {run.config.adapter.rank}, but an adapter "
            "adds no layers to its model: leave one of the two out."
        )
    with jax.set_mesh(run.mesh):
        model, load = load_start(
            start, run.tokenizer, run.mesh, dtype=cfg.compute.dtype, seed=seed, adapter=adapter
        )
        scalar = grown(model, cfg.grow)
        params = train_stage(
            run,
            scalar,
            lambda: with_head(scalar, load(), run.mesh, seed),
            make_loss(scalar, remat=cfg.compute.remat, router=cfg.router_loss),
            stream,
            cfg.optimizer,
            steps=cfg.steps,
            folder=run.output,
            name=name,
        )
    return None if params is None else (scalar, params)


def scored_row(ids: Sequence[int], label: bool, first: int | None = None) -> TokenRow:
    """A sequence whose score is to say a label: at its last token, or at all from `first` on."""
    # One token more, which is never fed, since a row's targets begin at its second token.
    fed = np.array([*ids, 0], np.int32)
    learned = np.arange(len(fed)) >= (len(ids) if first is None else first + 1)
    return TokenRow(fed, learned, np.full(len(ids), int(label), np.int32))


def label_loss(
    model: Model, *, remat: Remat = "none", router: RouterLossConfig | None = None
) -> SumLoss:
    """The loss of `make_step`: summed binary cross-entropy over the batch's labels.

    router: what is added of a model with experts, whose loads are reported; None: neither.
    """

    def loss(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, Metrics]:
        rows = batch.tokens, batch.positions, batch.segments
        hidden, seen = watched_hidden(model, params, *rows, remat=remat, router=router)
        scores = scalar_head.score_all(params["score"], hidden)
        value, count = binary_loss(scores, batch.targets, batch.mask)
        total = count.sum()
        right = jnp.where(batch.mask, (scores > 0) == (batch.targets > 0), False)
        summed, gates = with_router_loss(value.sum(), count, seen, router)
        return (
            summed,
            total,
            {
                **gates,
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
    return in_share(f"meta {item}", share)


def grown(model: Model, periods: int) -> Model:
    """The model with a scalar head, and so many periods of layers more: Gemma-2's pairs."""
    layers = model.config.num_layers + periods * len(model.spec.segments[0].period)
    return replace(model.as_head("scalar"), config=replace(model.config, num_layers=layers))


def with_head(scalar: Model, trunk: Any, mesh: Mesh, seed: int) -> Any:
    """The trunk's weights, below new periods of layers and a new head where `scalar` has more."""

    def join(trunk: Any, key: jax.Array) -> Any:
        new = scalar.init(key)
        grown = scalar.spec.segments[0].name
        depth = jax.tree.leaves(trunk[grown])[0].shape[0]
        for layer in new[grown].values():
            _faint(layer)
        layers = jax.tree.map(
            lambda old, made: jnp.concatenate([old, made[depth:]]), trunk[grown], new[grown]
        )
        rest = {name: trunk[name] for name in new if name not in (grown, "score")}
        return {**rest, grown: layers, "score": new["score"]}

    shardings = shardings_of(scalar.axes(), mesh, TRAIN_RULES)
    return jax.jit(join, out_shardings=shardings)(trunk, jax.random.key(seed))


def _faint(layer: dict[str, Any]) -> None:
    """Makes new layers add little to what they are given."""
    if "post_attn_norm" in layer:
        for name in ("post_attn_norm", "post_mlp_norm"):
            layer[name] = jnp.full_like(layer[name], FAINT)
        return
    for name in ("o", "down"):  # no norm follows, that could say how much
        layer[name] = (1.0 + FAINT) * layer[name]


def write_report(output: Path, report: Mapping[str, Any]) -> Path:
    """Writes `output/report.json`, whole or not at all; says where it is."""
    path = output / "report.json"
    if is_first():
        write_whole(path, json.dumps(report, indent=2) + "\n")
    return path
