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

from grm_jax.models.attention import soft_cap
from grm_jax.models.layers import ACTIVATIONS, prepare, scale_norm
from grm_jax.models.quantized import dequantized, is_quantized
from grm_jax.models.spec import LayerSpec, ModelSpec
from grm_jax.models.transformer import Attend, Params, embed, head_table
from grm_jax.sharding import constrain, divides


def split_layers(params: Params, dtype: str) -> Params:
    """The weights in the dtype of the computation, with those of each layer in arrays of their own,
    transposed; jit it with `dtype` static.

    On a CPU a matrix [out, in] times few columns is up to twice as fast as rows times [in, out].
    """
    cast = lambda leaf: leaf if is_quantized(leaf) else leaf.astype(dtype)  # noqa: E731
    params = jax.tree.map(cast, params, is_leaf=is_quantized)

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
    return weight if weight.ndim == 1 else weight.swapaxes(-1, -2)


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
            period = stack[turn] if split else jax.tree.map(lambda leaf: leaf[turn], stack)  # noqa: B023
            for name, layer in segment.period:
                x = constrain(x, (None, "batch", None))
                with jax.named_scope(name):
                    x = _block(
                        spec, layer, dequantized(period[name]), x, positions, attends(number),
                        _SPLIT if split else _STORED,
                    )  # fmt: skip
                number += 1
    return jnp.moveaxis(x, 0, -1)


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

    with jax.named_scope("attention"):
        h = norm(x, "pre_attn_norm")
        q, k, v = (times(name, "heads", h).transpose(2, 3, 0, 1) for name in "qkv")
        q, k, v = prepare(layer, spec.norm, weights.__getitem__, q, k, v, positions)
        h = times("o", "o", attend(q, k, v).transpose(2, 3, 0, 1))
        x = x + (norm(h, "post_attn_norm") if layer.post_norms else h)
    with jax.named_scope("mlp"):
        h = norm(x, "pre_mlp_norm")
        h = ACTIVATIONS[layer.mlp.activation](times("gate", "up", h)) * times("up", "up", h)
        h = times("down", "down", h)
        return x + (norm(h, "post_mlp_norm") if layer.post_norms else h)


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
