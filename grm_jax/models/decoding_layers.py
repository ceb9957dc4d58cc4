"""The layers of Gemma-2 over a few new tokens, apart from how these attend to caches.

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

from grm_jax.models.config import Gemma2Config
from grm_jax.models.gemma2 import Params, embed
from grm_jax.models.layers import rope
from grm_jax.models.quantized import dequantized, is_quantized
from grm_jax.sharding import constrain, divides


def split_layers(params: Params, dtype: str) -> Params:
    """The weights in the dtype of the computation, with those of each layer in arrays of their own,
    transposed; jit it with `dtype` static.

    On a CPU a matrix [out, in] times few columns is up to twice as fast as rows times [in, out].
    """
    cast = lambda leaf: leaf if is_quantized(leaf) else leaf.astype(dtype)  # noqa: E731
    params = jax.tree.map(cast, params, is_leaf=is_quantized)
    pairs = jax.tree.leaves(params["pairs"])[0].shape[0]

    def split(number: int) -> Params:
        pair = jax.tree.map(lambda leaf: leaf[number], params["pairs"])
        return {
            name: {k: _transposed(k, w) for k, w in layer.items()} for name, layer in pair.items()
        }

    return {**params, "pairs": tuple(split(number) for number in range(pairs))}


def _transposed(name: str, weight: Any) -> Any:
    if name == "o":
        return weight.transpose(2, 0, 1)
    return weight if weight.ndim == 1 else weight.swapaxes(-1, -2)


# How a weight meets activations [in, Z, M]: as it is stored, and as `split_layers` leaves it.
_STORED = {
    "heads": "ndh,dzm->nhzm",
    "o": "nhd,nhzm->dzm",
    "up": "df,dzm->fzm",
    "down": "fd,fzm->dzm",
}
_SPLIT = {
    "heads": "nhd,dzm->nhzm",
    "o": "dnh,nhzm->dzm",
    "up": "fd,dzm->fzm",
    "down": "df,fzm->dzm",
}


def trunk(
    config: Gemma2Config,
    params: Params,
    tokens: Int[Array, "Z M"],
    positions: Int[Array, "Z M"],
    attends: Callable[[int, str], Callable[[Array, Array, Array], Array]],
    dtype: str,
) -> Float[Array, "Z M D"]:
    """Hidden states before the final norm; `attends(pair, name)` is how a layer attends, see
    `layers.Block`. Activations are [D, Z, M]."""
    x = jnp.moveaxis(embed(config, params, tokens, dtype), -1, 0)
    pairs = params["pairs"]
    split = isinstance(pairs, tuple)
    for number in range(config.num_pairs):
        pair = pairs[number] if split else jax.tree.map(lambda leaf: leaf[number], pairs)  # noqa: B023
        for name in ("local", "global"):
            x = constrain(x, (None, "batch", None))
            with jax.named_scope(name):
                x = _block(
                    config, dequantized(pair[name]), x, positions, attends(number, name),
                    _SPLIT if split else _STORED,
                )  # fmt: skip
    return jnp.moveaxis(x, 0, -1)


def _block(
    config: Gemma2Config,
    weights: Params,
    x: Float[Array, "D Z M"],
    positions: Int[Array, "Z M"],
    attend: Callable[[Array, Array, Array], Array],
    meets: dict[str, str],
) -> Float[Array, "D Z M"]:
    """`layers.Block` with the model's dimension first."""
    c = config

    def times(name: str, how: str, x: Array) -> Array:
        return jnp.einsum(meets[how], weights[name].astype(x.dtype), x)

    def norm(x: Array, name: str) -> Array:  # layers.rms_norm
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), 0) + c.rms_norm_eps)
        scale = 1.0 + weights[name].astype(jnp.float32)
        return (normed * scale[:, None, None]).astype(x.dtype)

    with jax.named_scope("attention"):
        h = norm(x, "pre_attn_norm")
        q, k, v = (times(name, "heads", h).transpose(2, 3, 0, 1) for name in "qkv")
        q, k = rope(q, positions, c.rope_theta), rope(k, positions, c.rope_theta)
        h = attend(q * jnp.asarray(c.query_scale, q.dtype), k, v).transpose(2, 3, 0, 1)
        x = x + norm(times("o", "o", h), "post_attn_norm")
    with jax.named_scope("mlp"):
        h = norm(x, "pre_mlp_norm")
        h = jax.nn.gelu(times("gate", "up", h), approximate=True) * times("up", "up", h)
        return x + norm(times("down", "down", h), "post_mlp_norm")


def logits(
    config: Gemma2Config, params: Params, hidden: Float[Array, "Z N D"]
) -> Float[Array, "V Z N"]:
    """As `gemma2.logits`, with the vocabulary first."""
    with jax.named_scope("logits"):
        # The vocabulary over all devices that share rows, see `gemma2.logits`.
        shared = divides("vocab_parts", config.vocab_size)
        rows, vocab = ("rows", "vocab_parts") if shared else ("batch", "vocab")
        hidden = constrain(hidden, (rows, None, None))
        table = constrain(params["embed"].astype(hidden.dtype), (vocab, None))
        raw = jnp.einsum("vd,znd->vzn", table, hidden, preferred_element_type=jnp.float32)
        raw = constrain(raw, (vocab, rows, None))
        return config.final_logit_softcap * jnp.tanh(raw / config.final_logit_softcap)
