"""Attention of a prompt and G completions of it, in one row: the prompt once for all of them.

A row is the prompt's S tokens, then T of each completion: S + G * T. A prompt's token sees the
prompt up to itself; a completion's token sees the prompt, and its own completion up to itself.
Letters: P rows, S prompt, G completions, T time, U time of keys, N heads, K key-value heads, H size
of a head's queries and keys, W of its values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.attention import (
    MASKED,
    blockwise_attention,
    causal_attention,
    causal_mask,
    fold_heads,
    query_blocks,
    soft_cap,
)
from grm_jax.sharding import for_tpu


def group_attention(
    positions: Int[Array, "P L"],
    prompt: int,
    group: int,
    *,
    window: int | None = None,
    softcap: float | None,
) -> Callable[[Array, Array, Array], Array]:
    """attend(q, k, v) over rows of a prompt and its completions: splash on TPUs, or the reference.

    A prompt and one completion are an ordinary row.

    Args:
        positions: -1 on padding; a completion's go on from its prompt's. They increase along the
            prompt, and along each completion.
        prompt: S. group: G; L is S + G * T.
    """
    if group == 1:
        return causal_attention(positions, None, window=window, softcap=softcap)
    if for_tpu():
        # Here, because Pallas takes a second to import and nobody else needs it.
        from grm_jax.models.splash import Group, splash_attention

        length = (positions.shape[1] - prompt) // group
        return partial(
            splash_attention,
            positions=positions,
            segments=None,
            window=window,
            softcap=softcap,
            group=Group(prompt, length),
        )
    return partial(
        _attend, masks=_masks(positions, prompt, group, window), group=group, softcap=softcap
    )


def _masks(
    positions: Int[Array, "P L"], prompt: int, group: int, window: int | None
) -> tuple[Bool[Array, "P S S"], Bool[Array, "P Q S"], Bool[Array, "PG T T"]]:
    """Who sees whom: prompt and prompt, completions and prompt, a completion and itself."""
    first, rest = positions[:, :prompt], positions[:, prompt:]
    key, query = first[:, None, :], rest[:, :, None]
    seen = (key >= 0) & (key <= query)
    if window is not None:
        seen &= query - key < window
    own = rest.reshape(len(rest) * group, rest.shape[1] // group)
    return causal_mask(first, window), seen, causal_mask(own, window)


def _attend(
    q: Float[Array, "P L N H"],
    k: Float[Array, "P L K H"],
    v: Float[Array, "P L K W"],
    *,
    masks: tuple[Array, Array, Array],
    group: int,
    softcap: float | None,
) -> Float[Array, "P L N W"]:
    prompt_mask, prefix_mask, own_mask = masks
    prompt = prompt_mask.shape[-1]
    (q, own_q), (k, own_k), (v, own_v) = ((x[:, :prompt], x[:, prompt:]) for x in (q, k, v))
    first = blockwise_attention(q, k, v, prompt_mask, softcap)
    rest = _completions(own_q, k, v, own_k, own_v, prefix_mask, own_mask, group, softcap)
    return jnp.concatenate([first, rest], axis=1)


def _completions(
    q: Float[Array, "P Q N H"],
    prefix_k: Float[Array, "P S K H"],
    prefix_v: Float[Array, "P S K W"],
    own_k: Float[Array, "P Q K H"],
    own_v: Float[Array, "P Q K W"],
    prefix_mask: Bool[Array, "P Q S"],
    own_mask: Bool[Array, "PG T T"],
    group: int,
    softcap: float | None,
) -> Float[Array, "P Q N W"]:
    """The queries of all G completions, Q = G * T: a block of each completion's at a time, with
    the prompt's keys and the completion's own up to the block's end."""
    p, length = q.shape[:2]

    def apart(x: Array) -> Array:
        return x.reshape(p, group, length // group, *x.shape[2:])

    q, own_k, own_v, prefix_mask = map(apart, (q, own_k, own_v, prefix_mask))
    own_mask = own_mask.reshape(p, group, *own_mask.shape[1:])
    parts = [
        _block(
            q[:, :, block],
            prefix_k,
            prefix_v,
            own_k[:, :, : block.stop],
            own_v[:, :, : block.stop],
            prefix_mask[:, :, block],
            own_mask[:, :, block, : block.stop],
            softcap,
        )
        for block in query_blocks(length // group)
    ]
    return jnp.concatenate(parts, axis=2).reshape(p, length, *parts[0].shape[3:])


def _block(
    q: Float[Array, "P G T N H"],
    prefix_k: Float[Array, "P S K H"],
    prefix_v: Float[Array, "P S K W"],
    own_k: Float[Array, "P G U K H"],
    own_v: Float[Array, "P G U K W"],
    prefix_mask: Bool[Array, "P G T S"],
    own_mask: Bool[Array, "P G T U"],
    softcap: float | None,
) -> Float[Array, "P G T N W"]:
    """T queries of each completion: one softmax over the prompt and their own.

    As `decoding.decode` does it for one query of each: the prompt's keys meet all queries
    in one product. The weights are divided by their sum at the end, in the output.
    """
    p, group, t, n, _ = q.shape
    kv = prefix_k.shape[2]

    def each(x: Array) -> Array:
        """[P, G, ..] as [PG, ..]."""
        return x.reshape(p * group, *x.shape[2:])

    def all_of(x: Array) -> Array:
        """[P, G, T, ..] as [P, GT, ..]."""
        return x.reshape(p, group * t, *x.shape[3:])

    def together(x: Array) -> Array:
        """[PG, K, N/K * T, ..] as [P, K, N/K * GT, ..]."""
        x = x.reshape(p, group, kv, n // kv, t, -1).transpose(0, 2, 3, 1, 4, 5)
        return x.reshape(p, kv, (n // kv) * group * t, -1)

    def logits(q: Array, k: Array, mask: Array) -> Array:
        raw = jnp.einsum("bkqh,bskh->bkqs", q, k, preferred_element_type=jnp.float32)
        mask = jnp.tile(mask, (1, n // kv, 1))[:, None]
        return jnp.where(mask, soft_cap(raw, softcap), MASKED)

    prefix = logits(fold_heads(all_of(q), kv), prefix_k, all_of(prefix_mask))
    own = logits(fold_heads(each(q), kv), each(own_k), each(own_mask))
    peak = jnp.maximum(prefix.max(-1, keepdims=True), together(own.max(-1, keepdims=True)))
    peak = jax.lax.stop_gradient(peak)
    prefix = jnp.exp(prefix - peak)
    own_peak = peak.reshape(p, kv, n // kv, group, t, 1).transpose(0, 3, 1, 2, 4, 5)
    own = jnp.exp(own - own_peak.reshape(p * group, kv, -1, 1))
    total = prefix.sum(-1, keepdims=True) + together(own.sum(-1, keepdims=True))
    out = jnp.einsum("bkqs,bskh->bkqh", prefix.astype(q.dtype), prefix_v)
    out += together(jnp.einsum("bkqs,bskh->bkqh", own.astype(q.dtype), each(own_v)))
    out = (out / total).astype(q.dtype)
    out = out.reshape(p, n, group * t, prefix_v.shape[3]).swapaxes(1, 2)
    return out.reshape(p, group, t, *out.shape[2:])
