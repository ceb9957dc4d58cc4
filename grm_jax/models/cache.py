"""Key-value caches: prompts, stored once each, and what every sample has written after its own.

A layer that sees a window keeps a ring of its last positions, another keeps all. The caches are a
tuple of arrays, one per layer, because an array that holds all layers would be sliced, and so
copied, for each of them at every token.
Letters: Z lanes (parts of the batch that live on different devices), B prompts of a lane, N slots
of a lane (a slot holds one sample), K key-value heads, S positions of a prompt, T new tokens, H
head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.config import Gemma2Config

BLOCK = 128  # positions that are read at a time: a cache longer than that is a multiple of it


class KeysValues(NamedTuple):
    """The keys and the values of one layer: [Z, B, K, S, H] of prompts, [Z, N, K, T, H] of
    samples."""

    keys: Any
    values: Any


@jax.tree_util.register_dataclass
@dataclass
class PromptCache:
    """What attention needs of the prompts, for each pair of layers; lengths [Z, B] int32."""

    local: tuple[KeysValues, ...]
    full: tuple[KeysValues, ...]
    lengths: Any


@jax.tree_util.register_dataclass
@dataclass
class SampleCache:
    """Keys and values of the tokens that samples have drawn so far, for each pair of layers."""

    local: tuple[KeysValues, ...]
    full: tuple[KeysValues, ...]


_AXES = KeysValues(*(("batch", None, "kv_heads", None, None),) * 2)


def prompt_axes(config: Gemma2Config) -> PromptCache:
    """The names of the dimensions of every array of a PromptCache."""
    layers = (_AXES,) * config.num_pairs
    return PromptCache(layers, layers, ("batch", None))


def sample_axes(config: Gemma2Config) -> SampleCache:
    """The names of the dimensions of every array of a SampleCache."""
    layers = (_AXES,) * config.num_pairs
    return SampleCache(layers, layers)


def empty_prompts(
    config: Gemma2Config, lanes: int, prompts: int, length: int, dtype: str
) -> PromptCache:
    """A PromptCache of zeros, with room for prompts of `length` tokens."""
    caches = _empty(config, lanes, prompts, length, dtype)
    return PromptCache(*caches, jnp.zeros((lanes, prompts), jnp.int32))


def empty_samples(
    config: Gemma2Config, lanes: int, slots: int, steps: int, dtype: str
) -> SampleCache:
    """A SampleCache of zeros, with room for `steps` new tokens."""
    return SampleCache(*_empty(config, lanes, slots, steps, dtype))


def _empty(
    config: Gemma2Config, lanes: int, rows: int, length: int, dtype: str
) -> tuple[tuple[KeysValues, ...], tuple[KeysValues, ...]]:
    def layer(positions: int) -> KeysValues:
        shape = (lanes, rows, config.num_kv_heads, in_blocks(positions), config.head_dim)
        return KeysValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    window = min(config.sliding_window, in_blocks(length))
    local = tuple(layer(window) for _ in range(config.num_pairs))
    return local, tuple(layer(length) for _ in range(config.num_pairs))


def in_blocks(positions: int) -> int:
    """So many positions, or a few more: a whole number of blocks, or less than one."""
    return positions if positions <= BLOCK else -(-positions // BLOCK) * BLOCK


def ring_of(full: KeysValues, window: int | None) -> int:
    """How many positions a layer keeps, where one without a window keeps those of `full`."""
    kept = full.keys.shape[3]
    return kept if window is None else min(window, kept)


def ring_positions(length: Int[Array, "*B"], slots: Int[Array, " S"], ring: Any) -> Array:
    """The position that each of a ring's slots keeps after `length` tokens, [*B, S]; -1: none.

    Slot w keeps the latest position p with p % ring == w.
    """
    last = length[..., None] - 1
    kept = last - (last - slots) % ring
    return jnp.where((kept >= 0) & (slots < ring), kept, -1)


def visible_prompt(
    length: Int[Array, "*B"],
    queries: Int[Array, "*B Q"],
    slots: Int[Array, " S"],
    ring: int,
    window: int | None,
) -> Bool[Array, "*B Q S"]:
    """Which cached tokens of a prompt of this length the queries at these positions see."""
    kept = ring_positions(length, slots, ring)[..., None, :]
    seen = kept >= 0
    if window is not None:
        seen &= queries[..., None] - kept < window
    return jnp.broadcast_to(seen, (*queries.shape, slots.shape[0]))


def read_prompt(cache: KeysValues, row: Int[Array, " Z"]) -> KeysValues:
    """The keys and values of one row of each lane: [Z, K, S, H]."""
    pick = jax.vmap(lambda array, i: jax.lax.dynamic_index_in_dim(array, i, keepdims=False))
    return KeysValues(pick(cache.keys, row), pick(cache.values, row))


def write_prompt(
    cache: PromptCache,
    pieces: SampleCache,
    row: Int[Array, " Z"],
    start: Int[Array, " Z"],
    count: Int[Array, " Z"],
    window: int,
) -> PromptCache:
    """Stores the first `count` tokens of a piece of one prompt of each lane, at positions `start`
    and on; the pieces are [Z, K, C, H]. A program of its own, or the compiler would copy all of the
    cache, so as to be able to read the row and write it in any order."""

    def put(
        cache: Array, row: Array, start: Array, count: Array, piece: Array, ring: Array
    ) -> Array:
        old = jax.lax.dynamic_index_in_dim(cache, row, keepdims=False)
        kept = ring_positions(start + count, jnp.arange(old.shape[1]), ring)
        inside = jnp.clip(kept - start, 0, piece.shape[1] - 1)
        fresh = piece[:, inside].astype(cache.dtype)
        merged = jnp.where((kept >= start)[None, :, None], fresh, old)
        return jax.lax.dynamic_update_index_in_dim(cache, merged, row, 0)

    def all_of(layers: tuple[KeysValues, ...], new: tuple, window: int | None) -> tuple:
        ring = jnp.full(row.shape, ring_of(cache.full[0], window))
        each = lambda old, piece: _per_lane(put)(old, row, start, count, piece, ring)  # noqa: E731
        return jax.tree.map(each, layers, new)

    lengths = jax.vmap(lambda x, i, n: x.at[i].set(n))(cache.lengths, row, start + count)
    return PromptCache(
        all_of(cache.local, pieces.local, window), all_of(cache.full, pieces.full, None), lengths
    )


def write_token(
    cache: KeysValues,
    slot: Int[Array, "Z N"],
    k: Float[Array, "Z N K H"],
    v: Float[Array, "Z N K H"],
) -> KeysValues:
    """Stores one token of every sample, each in its own slot of its own ring."""

    def put(cache: Array, slot: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_slice(cache, new[:, None].astype(cache.dtype), (0, slot, 0))

    each = jax.vmap(jax.vmap(put))
    return KeysValues(each(cache.keys, slot, k), each(cache.values, slot, v))


def copy_prompt(
    cache: PromptCache, source: Int[Array, " Z"], target: Int[Array, " Z"]
) -> PromptCache:
    """The cache with one row of each lane copied into another."""

    def put(array: Array, source: Array, target: Array) -> Array:
        row = jax.lax.dynamic_index_in_dim(array, source, keepdims=False)
        return jax.lax.dynamic_update_index_in_dim(array, row, target, 0)

    return jax.tree.map(lambda array: _per_lane(put)(array, source, target), cache)


def _per_lane(put: Any) -> Any:
    """`put` on every lane. A single lane goes without vmap, whose scatter is not done in place."""

    def each(cache: Array, *others: Array) -> Array:
        if cache.shape[0] > 1:
            return jax.vmap(put)(cache, *others)
        return put(cache[0], *(other[0] for other in others))[None]

    return each
