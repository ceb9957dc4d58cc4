"""One score for a sequence: a trunk and a single row, read at the last real token."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models.layers import INIT_SCALE


def init(embed_dim: int, dtype: str, key: Array) -> Float[Array, "1 D"]:
    """A random head, in the layout of `score.weight` in a `..ForSequenceClassification`."""
    return (INIT_SCALE * jax.random.normal(key, (1, embed_dim), jnp.float32)).astype(dtype)


def score(
    head: Float[Array, "1 D"], hidden: Float[Array, "B T D"], positions: Int[Array, "B T"]
) -> Float[Array, " B"]:
    """The raw logit (no bias, no cap) at each row's last real token, in f32."""
    last = jnp.argmax(positions, axis=1)[:, None, None]
    x = jnp.take_along_axis(hidden, last, axis=1)[:, 0]
    return jnp.einsum("bd,d->b", x, head[0].astype(x.dtype), preferred_element_type=jnp.float32)


def score_all(head: Float[Array, "1 D"], hidden: Float[Array, "B T D"]) -> Float[Array, "B T"]:
    """The raw logit at every position, in f32: for rows that hold several sequences."""
    return jnp.einsum(
        "btd,d->bt", hidden, head[0].astype(hidden.dtype), preferred_element_type=jnp.float32
    )
