"""A spec's layers over a few new tokens, apart from how these attend to caches.

Layers are unrolled, not scanned: a scan copies the weights and the cache of every layer that it
reaches, which for one token is most of the work. Activations have the model's dimension first:
on a CPU products with few columns are up to twice as fast.
Letters: Z lanes, M tokens of a lane, D model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models import latent
from grm_jax.models.attention import soft_cap
from grm_jax.models.experts import InStack
from grm_jax.models.layers import (
    ACTIVATIONS,
    chosen_experts,
    latent_norm,
    latent_parts,
    prepare,
    rms_norm,
    scale_norm,
)
from grm_jax.models.quantized import dequantized, is_quantized
from grm_jax.models.spec import Experts, LatentAttention, LayerSpec, ModelSpec
from grm_jax.models.transformer import Attend, Params, embed, head_table
from grm_jax.sharding import constrain, divides, for_tpu

_EXPERTS = ("experts_gate", "experts_up", "experts_down")
# Stay as they are: they meet rows, or are read in parts.
_AS_STORED = ("router", *_EXPERTS, "kv_b")
# Experts are chosen in f32, as in `transformer.hidden`, whatever the rest is computed in.
_OF_THE_GATE = ("router", "router_bias")


def split_layers(params: Params, dtype: str) -> Params:
    """The weights in the dtype of the computation, with those of each layer in arrays of their own,
    transposed; jit it with `dtype` static.

    On a CPU a matrix [out, in] times few columns is up to twice as fast as rows times [in, out].
    """

    def cast(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return leaf if is_quantized(leaf) or name in _OF_THE_GATE else leaf.astype(dtype)

    params = jax.tree_util.tree_map_with_path(cast, params, is_leaf=is_quantized)

    def split(segment: Params, number: int) -> Params:
        period = jax.tree.map(lambda leaf: leaf[number], segment)
        return {
            name: {k: _transposed(k, w) for k, w in layer.items()} for name, layer in period.items()
        }

    def layers(segment: Params) -> tuple[Params, ...]:
        repeats = jax.tree.leaves(segment)[0].shape[0]
        return tuple(split(segment, number) for number in range(repeats))

    return {name: layers(part) if isinstance(part, dict) else part for name, part in params.items()}


def _transposed(name: str, weight: Any) -> Any:
    if name == "o":
        return weight.transpose(2, 0, 1)
    return weight if weight.ndim == 1 or name in _AS_STORED else weight.swapaxes(-1, -2)


# How a weight meets activations [in, Z, M]: as it is stored, and as `split_layers` leaves it.
# einsum sums over dimensions in the order of their letters: were the heads n, which comes after h,
# "o" would be transposed at every token.
_STORED = {
    "heads": "adh,dzm->ahzm",
    "o": "ahd,ahzm->dzm",
    "up": "df,dzm->fzm",
    "down": "fd,fzm->dzm",
}
_SPLIT = {
    "heads": "ahd,dzm->ahzm",
    "o": "dah,ahzm->dzm",
    "up": "fd,dzm->fzm",
    "down": "df,fzm->dzm",
}


def trunk(
    spec: ModelSpec,
    params: Params,
    tokens: Int[Array, "Z M"],
    positions: Int[Array, "Z M"],
    attends: Callable[[int], Attend],
    dtype: str,
) -> Float[Array, "Z M D"]:
    """Hidden states before the final norm; `attends(number)` is how a layer attends, see
    `layers.Block`. Activations are [D, Z, M]."""
    x = jnp.moveaxis(embed(spec, params, tokens, dtype), -1, 0)
    number = 0
    for segment in spec.segments:
        stack = params[segment.name]
        split = isinstance(stack, tuple)
        for turn in range(segment.repeats):
            period = stack[turn] if split else _layer(stack, turn, dtype)
            for name, layer in segment.period:
                x = constrain(x, (None, "batch", None))
                with jax.named_scope(name):
                    x = _block(
                        spec, layer, dequantized(period[name]), x, positions, attends(number),
                        _SPLIT if split else _STORED,
                    )  # fmt: skip
                number += 1
    return jnp.moveaxis(x, 0, -1)


def _layer(stack: Params, turn: int, dtype: str) -> Params:
    """The weights of one turn of a period. On a TPU experts stay where they are: their kernel would
    have a copy of the slice made at every token."""

    def one(name: str, leaf: Any) -> Any:
        if name in _EXPERTS and for_tpu() and not is_quantized(leaf) and leaf.dtype == dtype:
            return InStack(leaf, turn)
        return jax.tree.map(lambda array: array[turn], leaf)

    return {
        layer: {name: one(name, leaf) for name, leaf in weights.items()}
        for layer, weights in stack.items()
    }


def _block(
    spec: ModelSpec,
    layer: LayerSpec,
    weights: Params,
    x: Float[Array, "D Z M"],
    positions: Int[Array, "Z M"],
    attend: Attend,
    meets: dict[str, str],
) -> Float[Array, "D Z M"]:
    """`layers.Block` with the model's dimension first."""

    def times(name: str, how: str, x: Array) -> Array:
        return jnp.einsum(meets[how], weights[name].astype(x.dtype), x)

    def norm(x: Array, name: str) -> Array:  # layers.rms_norm
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), 0) + spec.norm.eps)
        return scale_norm(normed, weights[name], spec.norm, x.dtype, after=2)

    def gated(prefix: str, h: Array) -> Array:
        gate = ACTIVATIONS[layer.mlp.activation](times(f"{prefix}gate", "up", h))
        return times(f"{prefix}down", "down", gate * times(f"{prefix}up", "up", h))

    with jax.named_scope("attention"):
        h = norm(x, "pre_attn_norm")
        if isinstance(a := layer.attention, LatentAttention):
            h = _latent_heads(a, weights, h, positions, attend, times)
        else:
            q, k, v = (times(name, "heads", h).transpose(2, 3, 0, 1) for name in "qkv")
            q, k, v = prepare(a, spec.norm, weights.__getitem__, q, k, v, positions)
            h = attend(q, k, v)
        h = times("o", "o", h.transpose(2, 3, 0, 1))
        x = x + (norm(h, "post_attn_norm") if layer.post_norms else h)
    with jax.named_scope("mlp"):
        h = norm(x, "pre_mlp_norm")
        if isinstance(layer.mlp, Experts):
            mixed = chosen_experts(layer.mlp, weights.__getitem__, _model_last(h))
            h = jnp.moveaxis(mixed, -1, 0) + gated("shared_", h)
        else:
            h = gated("", h)
        return x + (norm(h, "post_mlp_norm") if layer.post_norms else h)


def _latent_heads(
    a: LatentAttention,
    weights: Params,
    h: Float[Array, "D Z M"],
    positions: Int[Array, "Z M"],
    attend: Attend,
    times: Callable[[str, str, Array], Array],
) -> Float[Array, "Z M N H"]:
    """The heads' values, by way of latent vectors, which are keys and values at once."""
    if a.query_rank is None:
        q = times("q", "heads", h)
    else:
        low = rms_norm(_model_last(times("q_a", "up", h)), weights["q_a_norm"], latent_norm(a))
        q = times("q_b", "heads", jnp.moveaxis(low, -1, 0))
    kv = _model_last(times("kv_a", "up", h))
    made = latent_parts(a, weights.__getitem__, q.transpose(2, 3, 0, 1), kv, positions)
    q, cached = latent.absorbed(a, weights["kv_b"], made)
    return latent.values(a, weights["kv_b"], attend(q, cached, cached))


def _model_last(x: Float[Array, "D Z M"]) -> Float[Array, "Z M D"]:
    return jnp.moveaxis(x, 0, -1)


def logits(spec: ModelSpec, params: Params, hidden: Float[Array, "Z N D"]) -> Float[Array, "V Z N"]:
    """As `transformer.logits`, with the vocabulary first."""
    with jax.named_scope("logits"):
        # The vocabulary over all devices that share rows, see `transformer.logits`.
        shared = divides("vocab_parts", spec.vocab_size)
        rows, vocab = ("rows", "vocab_parts") if shared else ("batch", "vocab")
        hidden = constrain(hidden, (rows, None, None))
        table = constrain(head_table(spec, params).astype(hidden.dtype), (vocab, None))
        raw = jnp.einsum("vd,znd->vzn", table, hidden, preferred_element_type=jnp.float32)
        raw = constrain(raw, (vocab, rows, None))
        return soft_cap(raw, spec.softcap)
