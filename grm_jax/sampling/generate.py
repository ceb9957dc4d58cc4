"""The sampling programs: `extend` prefills pieces of prompts, `advance` draws tokens.

Both write their state in place. A slot whose sample has ended takes the next one from the queue at
once, on the device. A sample's randomness comes from (seed, item, sample, step) by `fold_in`, its
cache is ordered by its own steps, and so nothing depends on what else is in the batch.
Letters: Z lanes, B prompts of a lane, N slots of a lane, C tokens of a piece, M steps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt

from grm_jax.models import cache as kv
from grm_jax.models.cache import SampleCache
from grm_jax.models.decoding import Seats
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.randomness import token_keys
from grm_jax.sampling.choice import choose
from grm_jax.sampling.state import Drawn, Prompts, Queue, Slots


def extend(
    model: Model,
    params: Params,
    prompts: Prompts,
    tokens: Int[Array, "Z C"],
    row: Int[Array, " Z"],
    start: Int[Array, " Z"],
    count: Int[Array, " Z"],
) -> tuple[Float[Array, "Z D"], SampleCache]:
    """Runs a piece of one prompt of each lane, see `decoding.extend`; jit with `model` static."""
    return model.extend(params, tokens, row, start, count, prompts.cache)


def store(
    model: Model,
    prompts: Prompts,
    last: Float[Array, "Z D"],
    pieces: SampleCache,
    row: Int[Array, " Z"],
    start: Int[Array, " Z"],
    count: Int[Array, " Z"],
) -> Prompts:
    """The prompts with what `extend` has made of a piece; jit with `model` static and `prompts`
    donated."""
    put = jax.vmap(lambda states, i, state: states.at[i].set(state))
    return Prompts(
        kv.write_prompt(prompts.cache, pieces, row, start, count, model.spec.windows),
        put(prompts.last, row, last),
    )


def copy(prompts: Prompts, source: Int[Array, " Z"], target: Int[Array, " Z"]) -> Prompts:
    """Copies one row of each lane into another; jit with `prompts` donated."""
    put = jax.vmap(lambda states, i, j: states.at[j].set(states[i]))
    return Prompts(kv.copy_prompt(prompts.cache, source, target), put(prompts.last, source, target))


def advance(
    model: Model,
    params: Params,
    prompts: Prompts,
    slots: Slots,
    queue: Queue,
    seed: ArrayLike,
    settings: tuple[ArrayLike, ArrayLike, ArrayLike],
    stop_ids: Int[Array, " n"],
    limit: ArrayLike,
    *,
    steps: int,
    places: int,
) -> tuple[Slots, Drawn]:
    """Draws up to `steps` tokens in every slot; jit with `model`, `steps` and `places` static and
    `slots` donated. It ends early when no slot holds a sample and none waits.

    Args:
        seed: a uint32. settings: `Strategy.traced()`. limit: tokens that a sample may have.
        places: samples of a prompt that are decoded at a time, see `decoding.decode`.
    """
    lanes, width = slots.entry.shape
    keys = token_keys(jnp.asarray(seed), queue.item.reshape(-1), queue.sample.reshape(-1, 1))
    queued = jax.random.key_data(keys).reshape(*queue.item.shape, -1)
    blank = Drawn(
        jnp.zeros((steps, lanes, width), jnp.int32),
        jnp.zeros((steps, lanes, width), jnp.float32),
        jnp.full((steps, lanes, width), -1),
    )

    def more(carry: tuple[Array, Slots, Drawn]) -> Array:
        step, slots, _ = carry
        return (step < steps) & (jnp.any(slots.seats.live) | jnp.any(slots.head < queue.tail))

    def one(carry: tuple[Array, Slots, Drawn]) -> tuple[Array, Slots, Drawn]:
        step, slots, drawn = carry
        slots = _refill(slots, queue, queued, prompts, places)
        seats = slots.seats
        keys = jax.random.wrap_key_data(slots.key.reshape(lanes * width, -1))
        uniform = jax.vmap(lambda k, i: jax.random.uniform(jax.random.fold_in(k, i)))(
            keys, seats.step.reshape(-1)
        )
        logits = model.next_logits(params, slots.hidden).reshape(-1, lanes * width)
        token, logprob = choose(logits, uniform, settings)
        token, logprob = token.reshape(lanes, width), logprob.reshape(lanes, width)
        entry = jnp.where(seats.live, slots.entry, -1)
        drawn = jax.tree.map(lambda a, x: a.at[step].set(x), drawn, Drawn(token, logprob, entry))
        hidden, cache = model.decode(
            params, token, seats, prompts.cache, slots.cache, places=places
        )
        ended = jnp.any(token[..., None] == stop_ids, axis=-1) | (seats.step + 1 >= limit)
        seats = Seats(seats.row, seats.place, seats.step + 1, seats.live & ~ended)
        after = Slots(seats, slots.entry, slots.key, hidden, cache, slots.head)
        return step + 1, after, drawn

    _, slots, drawn = jax.lax.while_loop(more, one, (jnp.int32(0), slots, blank))
    return slots, drawn


def _refill(
    slots: Slots, queue: Queue, keys: UInt[Array, "Z Q 2"], prompts: Prompts, places: int
) -> Slots:
    """Ends what is no longer wanted, and gives each empty slot the next sample of the queue."""
    seat = slots.seats.row * places + slots.seats.place
    live = slots.seats.live & jnp.take_along_axis(queue.kept, seat, axis=1)
    free = ~live
    entry = slots.head[:, None] + jnp.cumsum(free, axis=1) - free
    taken = free & (entry < queue.tail[:, None])
    index = entry % queue.row.shape[1]

    def pick(waiting: Array, held: Array) -> Array:
        return jnp.where(taken, jnp.take_along_axis(waiting, index, axis=1), held)

    seats = slots.seats
    row = pick(queue.row, seats.row)
    first = jnp.take_along_axis(prompts.last, row[..., None], axis=1)
    return Slots(
        seats=Seats(
            row,
            pick(queue.place, seats.place),
            jnp.where(taken, 0, seats.step),
            pick(queue.wanted, live),
        ),
        entry=jnp.where(taken, entry, slots.entry),
        key=jnp.where(
            taken[..., None], jnp.take_along_axis(keys, index[..., None], axis=1), slots.key
        ),
        hidden=jnp.where(taken[..., None], first, slots.hidden),
        cache=slots.cache,
        head=slots.head + jnp.sum(taken, axis=1),
    )
