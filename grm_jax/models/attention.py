"""Causal attention: what suits the platform, and the reference.

In the reference masks are made from positions, never from array indices, so padding may stand
anywhere. Long rows are computed in blocks of queries, which leave out the keys behind them.
Heads and queries are folded into one batched matmul: on XLA for CPU that is about five times
faster than the five-dimensional einsum, and elsewhere it is the same program.
Letters: B batch, T query time, S key time, N heads, K key-value heads, G = N/K, H size of a
head's queries and keys, W of its values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.sharding import for_tpu

# Finite, so that a padding query (which sees nothing) gives a number and no nan.
MASKED = -2.0e38
# The smallest block of queries, and the most blocks of a row: n of them compute (n + 1) / 2n of the
# logits, so that each saves less than the one before, and each makes the program longer. On a CPU
# a small block takes less time by the logit: at 1,280 tokens 128 queries 0.7 of what 256 take.
BLOCK, BLOCKS = 128, 16


def causal_attention(
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    *,
    window: int | None = None,
    softcap: float | None,
) -> Callable[[Array, Array, Array], Array]:
    """attend(q, k, v) over rows with these positions: splash on TPUs, elsewhere the reference.

    Both are `attention` under `causal_mask`, padding aside. Along a row the positions of a segment
    must increase; see `splash_attention` for what more it asks of them.
    """
    if for_tpu():
        # Here, because Pallas takes a second to import and nobody else needs it.
        from grm_jax.models.splash import splash_attention

        return partial(
            splash_attention,
            positions=positions,
            segments=segments,
            window=window,
            softcap=softcap,
        )
    mask = causal_mask(positions, window, segments)
    return partial(blockwise_attention, mask=mask, softcap=softcap)


def causal_mask(
    positions: Int[Array, "B T"],
    window: int | None = None,
    segments: Int[Array, "B T"] | None = None,
) -> Bool[Array, "B T T"]:
    """True where query t may see key s: s not padding, not later, in the window and the segment.

    `positions` is -1 on padding; `window` W keeps keys with q_position - k_position < W.
    """
    query, key = positions[:, :, None], positions[:, None, :]
    mask = (key >= 0) & (key <= query)
    if window is not None:
        mask &= query - key < window
    if segments is not None:
        mask &= segments[:, :, None] == segments[:, None, :]
    return mask


def attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K W"],
    mask: Bool[Array, "B T S"],
    softcap: float | None,
) -> Float[Array, "B T N W"]:
    """softmax(soft_cap(q k^T)) v with grouped heads; q comes scaled; f32 inside."""
    b, t, n, _ = q.shape
    folded = fold_heads(q, k.shape[2])
    logits = jnp.einsum("bkqh,bskh->bkqs", folded, k, preferred_element_type=jnp.float32)
    logits = soft_cap(logits, softcap)
    mask = jnp.tile(mask, (1, n // k.shape[2], 1))[:, None]
    weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1).astype(v.dtype)
    out = jnp.einsum("bkqs,bskh->bkqh", weights, v)
    return out.reshape(b, n, t, v.shape[3]).swapaxes(1, 2)


def blockwise_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K W"],
    mask: Bool[Array, "B T T"],
    softcap: float | None,
) -> Float[Array, "B T N W"]:
    """`attention` under a mask in which no query sees a key that stands behind it in the row.

    Each block of queries meets only the keys up to its own end, which is little more than half of
    the logits, to compute and to keep for the gradient. Keys are not left out from below under a
    sliding window: padding may stand between tokens, so places do not tell how far they are apart.
    Where a query sees nothing (padding), the output means nothing, here and in `attention`.
    """
    parts = []
    for block in query_blocks(q.shape[1]):
        seen = slice(block.stop)
        parts.append(attention(q[:, block], k[:, seen], v[:, seen], mask[:, block, seen], softcap))
    return jnp.concatenate(parts, axis=1)


def query_blocks(length: int) -> list[slice]:
    """The blocks of a row's queries, in order; a short row is one block."""
    size = BLOCK * -(-length // (BLOCK * BLOCKS))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def fold_heads(q: Float[Array, "B T N H"], kv_heads: int) -> Float[Array, "B K Q H"]:
    """The N/K heads that share keys as so many times more queries: Q = N/K * T, heads first."""
    b, t, n, h = q.shape
    return q.swapaxes(1, 2).reshape(b, kv_heads, (n // kv_heads) * t, h)


def soft_cap(logits: Float[Array, "*B"], cap: float | None) -> Float[Array, "*B"]:
    """cap * tanh(x / cap), which stays within the cap; as they are where there is none."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)
