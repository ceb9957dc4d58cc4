"""Soft-capped attention: what suits the platform, the reference, and the form for decoding.

In the reference masks are made from positions, never from array indices, so padding may stand
anywhere.
Heads and queries are folded into one batched matmul: on XLA for CPU that is about five times
faster than the five-dimensional einsum, and elsewhere it is the same program.
Letters: B batch, T query time, S key time, N heads, K key-value heads, G = N/K, H head size.
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


def causal_attention(
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    *,
    window: int | None = None,
    softcap: float,
) -> Callable[[Array, Array, Array], Array]:
    """attend(q, k, v) over rows with these positions: splash on TPUs, elsewhere the reference.

    Both are `attention` under `causal_mask`; see `splash_attention` for what it asks of positions.
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
    return partial(attention, mask=causal_mask(positions, window, segments), softcap=softcap)


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
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"],
    softcap: float,
) -> Float[Array, "B T N H"]:
    """softmax(softcap * tanh(q k^T / softcap)) v with grouped heads; q comes scaled; f32 inside."""
    b, t, n, h = q.shape
    folded = fold_heads(q, k.shape[2])
    logits = jnp.einsum("bkqh,bskh->bkqs", folded, k, preferred_element_type=jnp.float32)
    logits = softcap * jnp.tanh(logits / softcap)
    mask = jnp.tile(mask, (1, n // k.shape[2], 1))[:, None]
    weights = jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1).astype(v.dtype)
    out = jnp.einsum("bkqs,bskh->bkqh", weights, v)
    return out.reshape(b, n, t, h).swapaxes(1, 2)


def fold_heads(q: Float[Array, "B T N H"], kv_heads: int) -> Float[Array, "B K Q H"]:
    """The N/K heads that share keys as so many times more queries: Q = N/K * T, heads first."""
    b, t, n, h = q.shape
    return q.swapaxes(1, 2).reshape(b, kv_heads, (n // kv_heads) * t, h)


def shared_prefix_attention(
    q: Float[Array, "B R N H"],
    prefix_k: Float[Array, "B K S H"],
    prefix_v: Float[Array, "B K S H"],
    prefix_mask: Bool[Array, "B S"],
    own_k: Float[Array, "B R K H T"],
    own_v: Float[Array, "B R K T H"],
    own_mask: Bool[Array, " T"],
    softcap: float,
) -> Float[Array, "B R N H"]:
    """One new query of each of R samples of each of B prompts: one softmax over prompt and own.

    The prompt's keys are read once for all its samples (R * G queries in one matmul), which is
    what makes k samples cheap: the cache of the prompt is neither copied nor re-read k times.
    """
    b, r, n, h = q.shape
    kv = prefix_k.shape[1]
    group = n // kv
    grouped = q.reshape(b, r, kv, group, h)
    folded = grouped.swapaxes(1, 2).reshape(b, kv, r * group, h)
    prefix = jnp.einsum("bkqh,bksh->bkqs", folded, prefix_k, preferred_element_type=jnp.float32)
    prefix = prefix.reshape(b, kv, r, group, -1).swapaxes(1, 2)
    own = jnp.einsum("brkgh,brkht->brkgt", grouped, own_k, preferred_element_type=jnp.float32)
    prefix = jnp.where(
        prefix_mask[:, None, None, None], softcap * jnp.tanh(prefix / softcap), MASKED
    )
    own = jnp.where(own_mask, softcap * jnp.tanh(own / softcap), MASKED)
    peak = jnp.maximum(prefix.max(-1), own.max(-1))[..., None]
    prefix, own = jnp.exp(prefix - peak), jnp.exp(own - peak)
    total = prefix.sum(-1, keepdims=True) + own.sum(-1, keepdims=True)
    prefix, own = (prefix / total).astype(q.dtype), (own / total).astype(q.dtype)
    folded = prefix.swapaxes(1, 2).reshape(b, kv, r * group, -1)
    out = jnp.einsum("bkqs,bksh->bkqh", folded, prefix_v)
    out = out.reshape(b, kv, r, group, h).swapaxes(1, 2)
    out += jnp.einsum("brkgt,brkth->brkgh", own, own_v)
    return out.reshape(b, r, n, h)
