"""Key-value caches: prompts, stored once each, and what every sample has written after its own.

A layer that sees a window keeps a ring of its last positions, another keeps all; one of latent
attention keeps latent vectors, which are keys and values at once. The caches are a
tuple of arrays, one per layer, because an array that holds all layers would be sliced, and so
copied, for each of them at every token. For longer prompts room is made by one more chunk of
positions: what is there stays as it is, and is read in the same order.
Letters: Z lanes (parts of the batch that live on different devices), B prompts of a lane, N slots
of a lane (a slot holds one sample), K key-value heads, S positions of a prompt, T new tokens, H
head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.spec import Attention, LatentAttention, ModelSpec

BLOCK = 128  # positions that are read at a time, and prefilled
FIRST_LENGTH = 512  # positions that prompts have room for at first
NARROW = 256  # numbers in the keys of a position; a cache with fewer is read in smaller blocks
SMALL = 64  # positions in such a block: a cache longer than that is a multiple of it


class KeysValues(NamedTuple):
    """The keys and the values of one layer: [Z, B, K, S, H] of prompts, [Z, N, K, T, H] of
    samples. Without values the keys are latent vectors, and K is 1."""

    keys: Any
    values: Any

    @property
    def weighed(self) -> Any:
        """What attention sums: the values, or the latent vectors once more."""
        return self.keys if self.values is None else self.values


Chunks = tuple[KeysValues, ...]


@jax.tree_util.register_dataclass
@dataclass
class PromptCache:
    """What attention needs of the prompts, for each layer in chunks (see `edges`); lengths [Z, B]
    int32."""

    layers: tuple[Chunks, ...]
    lengths: Any


@jax.tree_util.register_dataclass
@dataclass
class SampleCache:
    """Keys and values of the tokens that samples have drawn so far, for each layer."""

    layers: tuple[KeysValues, ...]


def prompt_axes(spec: ModelSpec) -> PromptCache:
    """The names of the dimensions of the arrays of a PromptCache; one for all of a layer's."""
    return PromptCache(_layer_axes(spec), ("batch", None))


def sample_axes(spec: ModelSpec) -> SampleCache:
    """The names of the dimensions of the arrays of a SampleCache; one for all of a layer's."""
    return SampleCache(_layer_axes(spec))


def _layer_axes(spec: ModelSpec) -> Any:
    heads = (
        None if isinstance(layer.attention, LatentAttention) else "kv_heads"
        for layer in spec.layers
    )
    return tuple(("batch", None, name, None, None) for name in heads)


def empty_prompts(
    spec: ModelSpec, lanes: int, prompts: int, length: int, dtype: str, after: int = 0
) -> PromptCache:
    """A PromptCache of zeros, with room for prompts of `length` tokens; or the chunks that one with
    room for `after` tokens lacks."""

    def layer(a: Attention | LatentAttention) -> Chunks:
        ends = itertools.pairwise(edges(_kept(length, a.window)))
        there = _kept(after, a.window)
        return tuple(
            _zeros(a, lanes, prompts, end - start, dtype) for start, end in ends if start >= there
        )

    layers = tuple(layer(each.attention) for each in spec.layers)
    return PromptCache(layers, jnp.zeros((lanes, prompts), jnp.int32))


def empty_samples(spec: ModelSpec, lanes: int, slots: int, steps: int, dtype: str) -> SampleCache:
    """A SampleCache of zeros, with room for `steps` new tokens."""

    def layer(a: Attention | LatentAttention) -> KeysValues:
        return _zeros(a, lanes, slots, _kept(steps, a.window), dtype)

    return SampleCache(tuple(layer(each.attention) for each in spec.layers))


def _zeros(
    a: Attention | LatentAttention, lanes: int, rows: int, positions: int, dtype: str
) -> KeysValues:
    zeros = jnp.zeros((lanes, rows, a.cache_heads, positions, a.cache_dim), dtype)
    return kept_of(a, zeros, jnp.zeros(zeros.shape, dtype))


def kept_of(a: Attention | LatentAttention, keys: Any, values: Any) -> KeysValues:
    """What a layer keeps: of latent attention the keys alone."""
    return KeysValues(keys, None if isinstance(a, LatentAttention) else values)


def _kept(length: int, window: int | None) -> int:
    """Positions of a layer that keeps `length` of them, or a window of these."""
    return in_blocks(length if window is None else min(window, in_blocks(length)))


def edges(positions: int) -> list[int]:
    """Where the chunks of so many positions begin and end: 0, FIRST_LENGTH, and its doubles."""
    found = [0]
    while found[-1] < positions:
        found.append(min(max(2 * found[-1], FIRST_LENGTH), positions))
    return found


def lengthened(cache: PromptCache, more: PromptCache) -> PromptCache:
    """A cache with the chunks that it lacked. Where the ring of a layer grows, no prompt has gone
    round it yet, so that all tokens stay where they are."""
    layers = (old + new for old, new in zip(cache.layers, more.layers, strict=True))
    return PromptCache(tuple(layers), cache.lengths)


def in_blocks(positions: int) -> int:
    """So many positions, or a few more: a whole number of blocks, or less than one."""
    size = BLOCK if positions > BLOCK else max(min(SMALL, positions), 1)
    return -(-positions // size) * size


def block_of(heads: int, positions: int, width: int) -> int:
    """How many of the positions of a cache are read at a time."""
    size = SMALL if heads * width < NARROW or positions % BLOCK else BLOCK
    return min(size, positions)


def ring_of(layer: Chunks | KeysValues, window: int | None) -> int:
    """How many positions a layer keeps: all that it has room for, or a window of these."""
    chunks = (layer,) if isinstance(layer, KeysValues) else layer
    room = sum(chunk.keys.shape[3] for chunk in chunks)
    return room if window is None else min(window, room)


def starts(chunks: Chunks) -> list[int]:
    """The first position of each chunk."""
    return [0, *itertools.accumulate(chunk.keys.shape[3] for chunk in chunks)][:-1]


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
    if window is None:  # nothing goes round: a token's slot is its position
        seen = (slots < length[..., None])[..., None, :]
    else:
        kept = ring_positions(length, slots, ring)[..., None, :]
        seen = (kept >= 0) & (queries[..., None] - kept < window)
    return jnp.broadcast_to(seen, (*queries.shape, slots.shape[0]))


def read_prompt(cache: KeysValues, row: Int[Array, " Z"]) -> KeysValues:
    """The keys and values of one row of each lane: [Z, K, S, H]."""
    pick = jax.vmap(lambda array, i: jax.lax.dynamic_index_in_dim(array, i, keepdims=False))
    return jax.tree.map(lambda array: pick(array, row), cache)


def write_prompt(
    cache: PromptCache,
    pieces: SampleCache,
    row: Int[Array, " Z"],
    start: Int[Array, " Z"],
    count: Int[Array, " Z"],
    windows: Sequence[int | None],
) -> PromptCache:
    """Stores the first `count` tokens of a piece of one prompt of each lane, at positions `start`
    and on; the pieces are [Z, K, C, H], `start` is a multiple of C, the windows are those of the
    layers. A program of its own, or the compiler would copy all of the cache, so as to be able to
    read the row and write it in any order."""

    def layer(chunks: Chunks, piece: KeysValues, window: int | None) -> Chunks:
        ring, size = ring_of(chunks, window), piece.keys.shape[2]

        def chunk(at: int, old: KeysValues) -> KeysValues:
            room = old.keys.shape[3]
            # A piece has slots that follow each other, unless it goes round in its midst.
            wide = min(size, room) if ring % size == 0 else room

            def put(cache: Array, row: Array, start: Array, count: Array, piece: Array) -> Array:
                first = jnp.clip(start % ring - at, 0, room - wide)
                there = jax.lax.dynamic_slice(
                    cache, (row, 0, first, 0), (1, cache.shape[1], wide, cache.shape[3])
                )
                kept = ring_positions(start + count, at + first + jnp.arange(wide), ring)
                fresh = piece[:, jnp.clip(kept - start, 0, size - 1)].astype(cache.dtype)
                merged = jnp.where((kept >= start)[:, None], fresh, there)
                return jax.lax.dynamic_update_slice(cache, merged, (row, 0, first, 0))

            return jax.tree.map(
                lambda x, new: _per_lane(put)(x, row, start, count, new), old, piece
            )

        return tuple(map(chunk, starts(chunks), chunks))

    lengths = jax.vmap(lambda x, i, n: x.at[i].set(n))(cache.lengths, row, start + count)
    layers = map(layer, cache.layers, pieces.layers, windows)
    return PromptCache(tuple(layers), lengths)


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
    keys = each(cache.keys, slot, k)
    return KeysValues(keys, None if cache.values is None else each(cache.values, slot, v))


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
