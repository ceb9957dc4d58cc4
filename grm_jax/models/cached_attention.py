"""Attention of new tokens to caches, in parts: each part is a softmax that is joined with others.

On one CPU only those blocks of a cache are read that hold something: a loop over (row, block).
Elsewhere all of a cache is read, under a mask. A block in which nothing is seen changes no bit.
Letters: B rows of a cache, K key-value heads, Q queries of a row (samples or tokens, times G heads
of a group), S positions, H head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.attention import MASKED, soft_cap
from grm_jax.models.cache import KeysValues, block_of

A_TURN = 32_768  # numbers of the keys that a loop over blocks reads at a time, or one block's


class Part(NamedTuple):
    """A softmax over some of the keys, in f32: the largest logit, the sum of the exponentials
    relative to it [.., Q], and the values they weigh [.., Q, H]."""

    peak: Array
    total: Array
    values: Array


class Blocks(NamedTuple):
    """The blocks of a cache that are in use: `count` of them, each of `together` rows that follow
    each other; `row` counts by so many."""

    row: Int[Array, " M"]
    block: Int[Array, " M"]
    count: Int[Array, ""]
    together: int


def rows_at_a_time(cache: KeysValues) -> int:
    """How many rows of a cache [B, K, S, H] a loop may read at a time where all are about as full:
    so many that it is worth a turn."""
    rows, heads, positions, width = cache.keys.shape
    block = heads * block_of(heads, positions, width) * width
    return math.gcd(rows, 1 << max(A_TURN // block, 1).bit_length() - 1)


def blocks_in_use(cache: KeysValues, used: Int[Array, " B"], together: int = 1) -> Blocks:
    """The blocks of B rows of a cache [.., K, S, H] that are in use, if they have `used` positions;
    that may be less than none, or more than there are. As many are read of each of the rows that
    are read together."""
    _, heads, positions, width = cache.keys.shape
    fullest = jnp.clip(used, 0, positions).reshape(-1, together).max(1)
    size = block_of(heads, positions, width)
    each = -(-fullest // size)
    ends = jnp.cumsum(each)
    index = jnp.arange(fullest.shape[0] * (positions // size))
    row = jnp.minimum(jnp.searchsorted(ends, index, side="right"), fullest.shape[0] - 1)
    return Blocks(row, index - (ends - each)[row], ends[-1], together)


def whole(
    q: Float[Array, "*B Q H"],
    cache: KeysValues,
    seen: Bool[Array, "*M #Q S"],
    softcap: float | None,
) -> Part:
    """The part over a cache [*B, S, H], under a mask that broadcasts against [*B, Q, S]."""
    logits = jnp.einsum("...qh,...sh->...qs", q, cache.keys, preferred_element_type=jnp.float32)
    logits = jnp.where(seen, soft_cap(logits, softcap), MASKED)
    peak = logits.max(-1)
    weights = jnp.exp(logits - peak[..., None])
    values = jnp.einsum(
        "...qs,...sh->...qh",
        weights.astype(cache.weighed.dtype),
        cache.weighed,
        preferred_element_type=jnp.float32,
    )
    return Part(peak, weights.sum(-1), values)


def blockwise(
    q: Float[Array, "B K Q H"],
    cache: KeysValues,
    blocks: Blocks,
    seen: Callable[[Array, Array], Array],
    softcap: float | None,
    of: Int[Array, ""] | int = 0,
) -> Part:
    """The part over those blocks of a cache [B, K, S, H]; `seen(rows, slots)` is the mask
    [R, 1 or Q, slots] of R rows. A cache of more rows than B is read from row `of` on."""
    rows, (_, heads, positions, width) = q.shape[0], cache.keys.shape
    size, many = block_of(heads, positions, width), blocks.together

    def together(array: Array) -> Array:
        return array.reshape(array.shape[0] // many, many * heads, *array.shape[2:])

    q, keys, values = together(q), together(cache.keys), together(cache.weighed)

    def read(array: Array, row: Array, start: Array) -> Array:
        shape = (1, many * heads, size, width)
        return jax.lax.dynamic_slice(array, (of + row, 0, start, 0), shape)[0]

    def add(index: Array, before: Part) -> Part:
        row, start = blocks.row[index], blocks.block[index] * size
        block = KeysValues(read(keys, row, start), read(values, row, start))
        one = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, row, keepdims=False), before)
        query = jax.lax.dynamic_index_in_dim(q, row, keepdims=False)
        mask = seen(row * many + jnp.arange(many), start + jnp.arange(size))
        after = join(one, whole(query, block, jnp.repeat(mask, heads, axis=0), softcap))
        return jax.tree.map(
            lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, row, 0), before, after
        )

    shape = q.shape[:3]
    nothing = Part(jnp.full(shape, MASKED), jnp.zeros(shape), jnp.zeros(q.shape))
    part = jax.lax.fori_loop(0, blocks.count, add, nothing)
    return jax.tree.map(lambda leaf: leaf.reshape(rows, heads, *leaf.shape[2:]), part)


def join(one: Part, other: Part) -> Part:
    """The part over the keys of both."""
    peak = jnp.maximum(one.peak, other.peak)
    left, right = jnp.exp(one.peak - peak), jnp.exp(other.peak - peak)
    return Part(
        peak,
        one.total * left + other.total * right,
        one.values * left[..., None] + other.values * right[..., None],
    )


def finish(part: Part) -> Float[Array, "*B Q H"]:
    """What attention gives: the values by their weights. Where nothing was seen, zeros."""
    # The largest weight is 1, so that a total below 1 is that of a row that nobody uses.
    return part.values / jnp.maximum(part.total, 1.0)[..., None]
