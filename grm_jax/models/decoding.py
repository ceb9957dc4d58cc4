"""The trunk over caches: `extend` prefills prompts piece by piece, `decode` feeds a token of each
sample.

Letters: Z lanes, B prompts of a lane, R samples of a prompt that are decoded at a time, N slots of
a lane, C tokens of a piece, K key-value heads, G queries of one head, S positions, H head size, D
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models import cache as kv
from grm_jax.models.attention import causal_mask
from grm_jax.models.cache import Chunks, KeysValues, PromptCache, SampleCache
from grm_jax.models.cached_attention import (
    Blocks,
    Part,
    blocks_in_use,
    blockwise,
    finish,
    join,
    rows_at_a_time,
    whole,
)
from grm_jax.models.decoding_layers import trunk
from grm_jax.models.layers import rms_norm
from grm_jax.models.spec import Attention, LatentAttention, ModelSpec
from grm_jax.models.transformer import Attend, Params
from grm_jax.sharding import for_tpu


@jax.tree_util.register_dataclass
@dataclass
class Seats:
    """What the slots hold, each array [Z, N]: the row of the sample's prompt, its place (0 to
    R - 1) among the row's samples, how many of its tokens were fed, and whether it is live."""

    row: Any
    place: Any
    step: Any
    live: Any


class _Layers(NamedTuple):
    """How layers of one kind read: the window, and of prompts and of samples how many positions
    are kept and which blocks of each chunk are read (None: it is read whole)."""

    window: int | None
    prompt_ring: int
    own_ring: int
    prompt_blocks: tuple[Blocks | None, ...]
    own_blocks: Blocks | None


def extend(
    spec: ModelSpec,
    params: Params,
    tokens: Int[Array, "Z C"],
    row: Int[Array, " Z"],
    start: Int[Array, " Z"],
    count: Int[Array, " Z"],
    cache: PromptCache,
    *,
    dtype: str,
) -> tuple[Float[Array, "Z D"], SampleCache]:
    """Runs the next piece of one prompt of each lane, whose front is in the cache.

    The first `count` tokens of a piece stand at the positions from `start` on; the rest is padding.

    Returns:
        The hidden state of the piece's last token, and its keys and values [Z, K, C, H], to be
        stored by `cache.write_prompt`.
    """
    index = jnp.arange(tokens.shape[1])
    positions = jnp.where(index < count[:, None], start[:, None] + index, -1)
    made: list[KeysValues] = []

    def attends(number: int) -> Attend:
        a, layer = spec.layers[number].attention, cache.layers[number]
        ring = kv.ring_of(layer, a.window)

        def attend(q: Array, k: Array, v: Array) -> Array:
            new = kv.kept_of(a, k.swapaxes(1, 2), v.swapaxes(1, 2))
            made.append(new)
            folded = _fold(q, k.shape[2])
            mask = _per_head(causal_mask(positions, a.window), q.shape[2] // k.shape[2])
            piece = whole(folded, new, mask[:, None], a.softcap)
            before = _before_piece(folded, layer, row, start, positions, ring, a.window, a.softcap)
            return _unfold(finish(join(before, piece)), q)

        return attend

    x = trunk(spec, params, tokens, positions, attends, dtype)
    last = jnp.maximum(count - 1, 0)[:, None, None]
    x = jnp.take_along_axis(x, last, axis=1)[:, 0]
    x = rms_norm(x, params["final_norm"], spec.norm)
    return x, SampleCache(tuple(made))


def _before_piece(
    q: Float[Array, "Z K Q H"],
    layer: Chunks,
    row: Int[Array, " Z"],
    start: Int[Array, " Z"],
    positions: Int[Array, "Z C"],
    ring: int,
    window: int | None,
    softcap: float | None,
) -> Part:
    """What the queries of a piece make of the pieces before it."""
    group = q.shape[2] // positions.shape[1]

    def over(at: int, chunk: KeysValues) -> Part:
        def see(lanes: Array, slots: Array) -> Array:
            mask = kv.visible_prompt(start[lanes], positions[lanes], at + slots, ring, window)
            return _per_head(mask, group)

        if by_blocks(chunk):
            there = _only_lane(chunk)
            blocks = blocks_in_use(there, jnp.minimum(start, ring) - at)
            return blockwise(q, there, blocks, see, softcap, of=row[0])
        mine = kv.read_prompt(chunk, row)
        seen = see(jnp.arange(row.shape[0]), jnp.arange(mine.keys.shape[2]))
        return whole(q, mine, seen[:, None], softcap)

    return reduce(join, map(over, kv.starts(layer), layer))


def decode(
    spec: ModelSpec,
    params: Params,
    tokens: Int[Array, "Z N"],
    seats: Seats,
    prompts: PromptCache,
    samples: SampleCache,
    *,
    places: int,
    dtype: str,
) -> tuple[Float[Array, "Z N D"], SampleCache]:
    """Feeds the next token of every sample; returns hidden states, and the samples' new cache.

    places: R; no two live samples have the same place in the same row.
    """
    lanes, rows = prompts.lengths.shape
    positions = jnp.take_along_axis(prompts.lengths, seats.row, axis=1) + seats.step
    # The slot at each place of each row; an empty place has a number that no slot has.
    seat = seats.row * places + seats.place
    number = jnp.arange(seat.shape[1])
    slot_at = jax.vmap(
        lambda seat, live: (
            jnp.full((rows * places,), seat.shape[0])
            .at[jnp.where(live, seat, rows * places)]
            .set(number, mode="drop")
        )
    )(seat, seats.live)
    taken = jax.vmap(lambda x, i: x.at[i].get(mode="fill", fill_value=0))
    asked = taken(positions, slot_at).reshape(lanes, rows, places)
    used = jnp.any(slot_at.reshape(asked.shape) < seat.shape[1], axis=-1)
    kinds: dict[Attention | LatentAttention, _Layers] = {}
    for number, layer in enumerate(spec.layers):
        if (a := layer.attention) not in kinds:
            kinds[a] = _layers(a.window, prompts, samples, number, seats, used)
    own = list(samples.layers)

    def attends(number: int) -> Attend:
        a = spec.layers[number].attention
        kind, prompt = kinds[a], prompts.layers[number]

        def attend(q: Array, k: Array, v: Array) -> Array:
            shape = (*q.shape[:2], k.shape[2], q.shape[2] // k.shape[2], q.shape[3])
            q = q.reshape(shape)
            slot = seats.step % kind.own_ring
            if for_tpu():
                there, new = own[number], kv.kept_of(a, k, v)
                mine = _own_and_new(q, there, new, seats, slot, kind, a.softcap)
                # Its compiler takes what is written and then read into fast memory, and writes all
                # of it back. Read first, a cache stays where it is and gets one token.
                k, v, mine = jax.lax.optimization_barrier((k, v, mine))
                own[number] = kv.write_token(there, slot, k, v)
            else:
                own[number] = kv.write_token(own[number], slot, k, v)
                mine = _own(q, own[number], seats, kind, a.softcap)
            seated = taken(q, slot_at).reshape(lanes, rows, places, *shape[2:])
            part = _prompt(seated, prompt, prompts.lengths, asked, kind, a.softcap)
            part = jax.tree.map(lambda leaf: taken(leaf, seat), part)
            return finish(join(part, mine)).astype(q.dtype).reshape(*shape[:2], -1, shape[4])

        return attend

    x = trunk(spec, params, tokens, positions, attends, dtype)
    x = rms_norm(x, params["final_norm"], spec.norm)
    return x, SampleCache(tuple(own))


def _layers(
    window: int | None,
    prompts: PromptCache,
    samples: SampleCache,
    number: int,
    seats: Seats,
    used: Array,
) -> _Layers:
    """How layers such as this one read, at this step; `used` [Z, B] says which prompts are."""
    prompt, own = prompts.layers[number], samples.layers[number]
    prompt_ring, own_ring = kv.ring_of(prompt, window), kv.ring_of(own, window)
    kept = jnp.where(used, jnp.minimum(prompts.lengths, prompt_ring), 0)[0]
    written = jnp.where(seats.live, jnp.minimum(seats.step + 1, own_ring), 0)[0]

    if not by_blocks(own):
        return _Layers(window, prompt_ring, own_ring, (None,) * len(prompt), None)
    of_prompts = (
        blocks_in_use(_only_lane(chunk), kept - at)
        for at, chunk in zip(kv.starts(prompt), prompt, strict=True)
    )
    # Prompts differ in length, and many rows hold one that nobody reads: each is read by itself.
    mine = _only_lane(own)
    of_own = blocks_in_use(mine, written, rows_at_a_time(mine))
    return _Layers(window, prompt_ring, own_ring, tuple(of_prompts), of_own)


def _own(
    q: Float[Array, "Z N K G H"],
    cache: KeysValues,
    seats: Seats,
    kind: _Layers,
    softcap: float | None,
) -> Part:
    """What each sample makes of its own tokens. A ring keeps no more than the window, so having
    been written is all that there is to check."""
    written = jnp.minimum(seats.step + 1, kind.own_ring)
    if kind.own_blocks is not None:
        part = blockwise(
            q[0],
            _only_lane(cache),
            kind.own_blocks,
            lambda rows, slots: (slots < written[0, rows][:, None])[:, None],
            softcap,
        )
        return jax.tree.map(lambda leaf: leaf[None], part)
    mask = jnp.arange(cache.keys.shape[3]) < written[..., None]
    return whole(q, cache, mask[:, :, None, None], softcap)


def _own_and_new(
    q: Float[Array, "Z N K G H"],
    cache: KeysValues,
    new: KeysValues,
    seats: Seats,
    slot: Int[Array, "Z N"],
    kind: _Layers,
    softcap: float | None,
) -> Part:
    """As `_own`, before the new tokens [Z, N, K, H] are in the cache, each in its slot: what that
    one has now is of no use any more."""
    slots = jnp.arange(cache.keys.shape[3])
    written = slots < jnp.minimum(seats.step, kind.own_ring)[..., None]
    mask = written & (slots != slot[..., None])
    before = whole(q, cache, mask[:, :, None, None], softcap)
    last = jax.tree.map(lambda x: x.astype(cache.keys.dtype)[..., None, :], new)
    return join(before, whole(q, last, jnp.ones((1, 1), bool), softcap))


def _prompt(
    q: Float[Array, "Z B R K G H"],
    chunks: Chunks,
    lengths: Int[Array, "Z B"],
    asked: Int[Array, "Z B R"],
    kind: _Layers,
    softcap: float | None,
) -> Part:
    """What the samples at each place of each row make of their prompt: [Z, B * R, K, G, ..].

    A prompt's keys are read once for all its samples (R x G queries in one matrix product).
    """
    lanes, rows, places, heads, group, width = q.shape
    # G before R: latent attention has one key for all heads, so devices share G among them, and a
    # dimension made of two is shared as the first of them is.
    folded = q.transpose(0, 1, 3, 4, 2, 5).reshape(lanes, rows, heads, group * places, width)

    def over(at: int, chunk: KeysValues, blocks: Blocks | None) -> Part:
        def see(length: Array, asked: Array, slots: Array) -> Array:
            mask = kv.visible_prompt(length, asked, at + slots, kind.prompt_ring, kind.window)
            return _per_head(mask, group)

        if blocks is None:
            seen = see(lengths, asked, jnp.arange(chunk.keys.shape[3]))
            return whole(folded, chunk, seen[:, :, None], softcap)
        part = blockwise(
            folded[0],
            _only_lane(chunk),
            blocks,
            lambda rows, slots: see(lengths[0, rows], asked[0, rows], slots),
            softcap,
        )
        return jax.tree.map(lambda leaf: leaf[None], part)

    part = reduce(join, map(over, kv.starts(chunks), chunks, kind.prompt_blocks))

    def unfold(leaf: Array) -> Array:
        split = leaf.reshape(lanes, rows, heads, group, places, *leaf.shape[4:])
        each = jnp.moveaxis(split, 4, 2)
        return each.reshape(lanes, rows * places, *each.shape[3:])

    return jax.tree.map(unfold, part)


def by_blocks(layer: KeysValues) -> bool:
    """Whether only the blocks that are in use are read: on one CPU. It may not depend on how many
    rows or positions there are, since bits depend on it, and a crowd makes more of both."""
    alone = layer.keys.shape[0] == 1 and jax.sharding.get_abstract_mesh().empty
    return alone and jax.default_backend() == "cpu"


def _only_lane(layer: KeysValues) -> KeysValues:
    return jax.tree.map(lambda array: array[0], layer)


def _fold(q: Float[Array, "Z C N H"], heads: int) -> Float[Array, "Z K Q H"]:
    """Queries of a head's group side by side: query g * C + c is token c's."""
    z, c, n, h = q.shape
    return q.swapaxes(1, 2).reshape(z, heads, n // heads * c, h)


def _unfold(out: Float[Array, "Z K Q H"], q: Float[Array, "Z C N H"]) -> Float[Array, "Z C N H"]:
    z, c, n, h = q.shape
    return out.astype(q.dtype).reshape(z, n, c, h).swapaxes(1, 2)


def _per_head(mask: Array, group: int) -> Array:
    """A mask [.., C, S] for the queries of a folded group [.., Q, S]."""
    return jnp.concatenate([mask] * group, axis=-2)
