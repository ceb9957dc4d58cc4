"""A mixture of experts: each token goes to those that a gate chooses for it, and none is dropped.

Tokens are sorted by expert, so that each expert's matrix meets a stretch of rows
(`grouped.grouped_dot`). On a mesh experts lie along `tensor`: every device does its own experts'
part of all its tokens, and the parts are added up.
Letters: B batch, T time, M tokens, E experts, G groups of them, k experts of a token, D model, F
feed-forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.grouped import grouped_dot
from grm_jax.models.spec import Experts, Gate
from grm_jax.sharding import TRAIN_RULES, divides, spec_for, where_it_lies


class Matrices(NamedTuple):
    """Of all experts: gate and up [E, D, F], down [E, F, D]; or each `InStack`."""

    gate: Any
    up: Any
    down: Any


class InStack(NamedTuple):
    """The matrices of the experts of one layer, within those of all: [L, E, ..].

    To a kernel a slice would first be copied, but it does not read experts that have no tokens.
    """

    layers: Array
    layer: int


class Routed(NamedTuple):
    """The experts of each token and their weights in f32, [.., k]."""

    expert: Array
    weight: Array


class Routing(NamedTuple):
    """What a gate did with the tokens of each row, padding left out; of L layers [L, ..].

    Attributes:
        load: how many tokens each expert has [B, E].
        balance, z: the losses that `routing` describes [B].
    """

    load: Array
    balance: Array
    z: Array


def router_logits(router: Float[Array, "D E"], x: Float[Array, "B T D"]) -> Float[Array, "B T E"]:
    """What the gate decides by; in f32."""
    return jnp.einsum("btd,de->bte", x.astype(jnp.float32), router.astype(jnp.float32))


def choose(
    gate: Gate, chosen: int, logits: Float[Array, "B T E"], bias: Float[Array, " E"] | None
) -> Routed:
    """The `chosen` best experts of each token, see `Gate`; `bias` is added for the choice alone."""
    scores = _scores(gate, logits)
    merit = scores if bias is None else scores + bias.astype(jnp.float32)
    if gate.groups > 1:
        merit = _best_groups(gate, merit)
    _, expert = jax.lax.top_k(merit, chosen)
    weight = jnp.take_along_axis(scores, expert, axis=-1)
    if gate.normalized:
        weight = weight / (weight.sum(-1, keepdims=True) + 1e-20)
    return Routed(expert, weight * gate.scale)


def _scores(gate: Gate, logits: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
    return jax.nn.softmax(logits) if gate.score == "softmax" else jax.nn.sigmoid(logits)


def routing(
    spec: Experts, logits: Float[Array, "B T E"], routed: Routed, real: Bool[Array, "B T"]
) -> Routing:
    """The loads of the experts, and two losses that keep a gate healthy, of each row.

    balance: sum_i f_i P_i, where f_i is E / k times the share of tokens that go to expert i, and
    P_i the mean over tokens of its share of their scores: 1 where experts are used evenly, and more
    the less they are (Switch, arXiv 2101.03961, equation 4; for k experts a token, and of one row
    alone, as in DeepSeek-V2, arXiv 2405.04434, equation 23, and V3, arXiv 2412.19437, equation 17).
    z: the mean over tokens of (log sum_i exp(logit_i))^2 (ST-MoE, arXiv 2202.08906, equation 5).
    A row without tokens gives 0.
    """
    scores = _scores(spec.gate, logits)
    if spec.gate.score == "sigmoid":
        scores = scores / (scores.sum(-1, keepdims=True) + 1e-20)
    tokens = jnp.maximum(real.sum(-1), 1).astype(jnp.float32)

    def summed(x: Float[Array, "B T ..."]) -> Float[Array, "B ..."]:
        return jnp.sum(jnp.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), x, 0.0), axis=1)

    chosen = jnp.any(routed.expert[..., None] == jnp.arange(spec.count), axis=-2)
    load, score = summed(chosen.astype(jnp.float32)), summed(scores)
    balance = spec.count / spec.chosen * jnp.sum(load * score, -1) / tokens**2
    z = summed(jnp.square(jax.nn.logsumexp(logits, axis=-1))) / tokens
    return Routing(load, balance, z)


def _best_groups(gate: Gate, merit: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
    """The merits, but -inf outside of a token's best groups."""
    grouped = merit.reshape(*merit.shape[:-1], gate.groups, -1)
    of_group = jax.lax.top_k(grouped, gate.group_best)[0].sum(-1)
    _, best = jax.lax.top_k(of_group, gate.top_groups)
    kept = jnp.any(best[..., None] == jnp.arange(gate.groups), axis=-2)
    return jnp.where(kept[..., None], grouped, -jnp.inf).reshape(merit.shape)


def mixed(
    matrices: Matrices,
    routed: Routed,
    x: Float[Array, "B T D"],
    activation: Callable[[Array], Array],
) -> Float[Array, "B T D"]:
    """What each token's experts make of it, by their weights; on a mesh (`jax.set_mesh`) every
    device computes its own experts."""
    layer = 0
    if isinstance(matrices.gate, InStack):
        layer = matrices.gate.layer
        matrices = Matrices(*(matrix.layers for matrix in matrices))
    else:
        matrices = Matrices(*(where_it_lies(matrix.astype(x.dtype))[None] for matrix in matrices))

    def local(matrices: Matrices, routed: Routed, x: Array, first: Array | int) -> Array:
        tokens = x.reshape(-1, x.shape[-1])
        flat = jax.tree.map(lambda leaf: leaf.reshape(len(tokens), -1), routed)
        return _own_experts(matrices, layer, flat, tokens, first, activation).reshape(x.shape)

    if jax.sharding.get_abstract_mesh().empty:
        return local(matrices, routed, x, 0).astype(x.dtype)
    axis = str(TRAIN_RULES["expert"])

    def part(matrices: Matrices, routed: Routed, x: Array) -> Array:
        first = jax.lax.axis_index(axis) * matrices.gate.shape[1]
        return jax.lax.psum(local(matrices, routed, x, first), axis)

    rows = spec_for(("batch" if divides("batch", len(x)) else None, None, None), TRAIN_RULES)
    experts = spec_for((None, "expert", None, None), TRAIN_RULES)
    # check_vma: that every device along other axes has the same rows is not for it to prove.
    return jax.shard_map(part, in_specs=(experts, rows, rows), out_specs=rows, check_vma=False)(
        matrices, routed, x
    ).astype(x.dtype)


def _own_experts(
    matrices: Matrices,
    layer: int,
    routed: Routed,
    x: Float[Array, "M D"],
    first: Int[Array, ""] | int,
    activation: Callable[[Array], Array],
) -> Float[Array, "M D"]:
    """The part of the experts that are here, of which `first` is the first; in f32. The matrices
    are those of L layers."""
    stack, count = matrices.gate.shape[:2]
    chosen = routed.expert.shape[1]
    here = routed.expert - first
    mine = (here >= 0) & (here < count)
    slot = jnp.where(mine, here, count).reshape(-1)  # those that are elsewhere come last
    order = jnp.argsort(slot)
    sizes = jnp.bincount(slot, length=count + 1)[:count].astype(jnp.int32)
    sizes = jnp.pad(sizes, (layer * count, (stack - 1 - layer) * count))
    rows = x[order // chosen]

    def times(rows: Array, weight: Array) -> Array:
        return grouped_dot(rows, weight.reshape(-1, *weight.shape[2:]), sizes)

    gate = activation(times(rows, matrices.gate))
    out = times(gate * times(rows, matrices.up), matrices.down)
    # Back into the order of the tokens: by a gather, since a sum by scatter has none of its own.
    back = jnp.zeros_like(order).at[order].set(jnp.arange(len(order)), unique_indices=True)
    out = out[back].reshape(*mine.shape, -1).astype(jnp.float32)
    # No row of a stretch that belongs to nobody counts, whatever is in it.
    out = jnp.where(mine[..., None], out, 0.0)
    return jnp.einsum("mkd,mk->md", out, routed.weight)
