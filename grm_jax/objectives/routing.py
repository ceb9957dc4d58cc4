"""Losses that keep the experts of a model in use, and how much each of them has to do.

A row of a batch counts in them as often as in the loss that they are added to, so that here, too,
micro-batches add up to the batch. No expert is ever full (see `models.experts`): no token is
dropped, and there is nothing to count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.metric_names import BALANCE, GATES, IDLE, MAX_LOAD, Z
from grm_jax.models.config import Remat
from grm_jax.models.model import Model
from grm_jax.models.spec import Experts, ModelSpec
from grm_jax.models.transformer import Params, Watched
from grm_jax.objectives.config import RouterLossConfig


class Gates(NamedTuple):
    """Sums over a batch's rows: of each group of layers the tokens of each expert, by the numbers
    of the layers; and the mean over layers of both losses, a row counted as the loss counts it."""

    loads: dict[tuple[int, ...], Array]
    balance: Array
    z: Array


def check_router_loss(spec: ModelSpec, config: RouterLossConfig) -> None:
    """Raises ValueError where there are no experts to keep in use."""
    if config.wanted and not any(isinstance(layer.mlp, Experts) for layer in spec.layers):
        raise ValueError(
            f"router_loss.balance is {config.balance} and router_loss.z is {config.z}, but this "
            "model has no experts: leave both at 0."
        )


def watched_hidden(
    model: Model,
    params: Params,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    *,
    remat: Remat,
    router: RouterLossConfig | None,
) -> tuple[Float[Array, "B T D"], list[Watched]]:
    """`Model.hidden`, and what the gates did on the way: nothing without `router`."""
    seen: list[Watched] = []
    watch = seen.append if router else None
    return model.hidden(params, tokens, positions, segments, remat=remat, watch=watch), seen


def with_router_loss(
    value: Float[Array, ""],
    counts: Float[Array, " B"],
    seen: Sequence[Watched],
    config: RouterLossConfig | None,
) -> tuple[Float[Array, ""], dict[str, Gates]]:
    """A loss summed over rows, with those of the gates; and what `gate_metrics` reports.

    The losses of all layers are summed, as in the papers.

    Args:
        counts: how often each row counts in `value`.
        seen: what the gates did with these rows.
    """
    if not seen or config is None:
        return value, {}
    layers = sum(len(numbers) for numbers, _ in seen)
    balance, z = (
        jnp.sum(jnp.stack([jnp.sum(getattr(routing, name) * counts) for _, routing in seen]))
        for name in ("balance", "z")
    )
    if config.wanted:
        value = value + config.balance * balance + config.z * z
    loads = {numbers: routing.load.sum(axis=1) for numbers, routing in seen}
    gates = Gates(loads, balance / layers, z / layers)
    return value, {GATES: jax.lax.stop_gradient(gates)}


def gate_metrics(gates: Gates, count: Float[Array, ""]) -> dict[str, Float[Array, ""]]:
    """Of sums over a whole batch, which `count` rows, targets or sequences make: the load of each
    layer's busiest expert, relative to the mean load of its experts; the largest of these; the
    share of experts without a token; and the mean of both losses."""
    peaks, idle = {}, []
    for numbers, load in gates.loads.items():
        peaks |= dict(zip(numbers, load.max(-1) / jnp.maximum(load.mean(-1), 1e-9), strict=True))
        idle.append((load == 0).mean(-1))
    return {
        MAX_LOAD: jnp.stack(list(peaks.values())).max(),
        **{f"{MAX_LOAD}/{number}": peak for number, peak in peaks.items()},
        IDLE: jnp.concatenate(idle).mean(),
        BALANCE: gates.balance / count,
        Z: gates.z / count,
    }
