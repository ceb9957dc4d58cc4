"""Prompts and chosen tokens through the caches, as the engine runs them, in one traceable call."""

import jax
import jax.numpy as jnp

from grm_jax.models import cache as kv
from grm_jax.models.decoding import Seats


def through_caches(model, params, tokens, lengths, new, piece=4):
    """Hidden states of the prompts' last tokens [Z, B, D] and of all new tokens [Z, B, R, T, D].

    tokens [Z, B, S] are prompts of these lengths [Z, B], new [Z, B, R, T] what R samples of each
    are fed after them.
    """
    spec, (lanes, rows, samples, steps) = model.spec, new.shape
    prompts = kv.empty_prompts(spec, lanes, rows, tokens.shape[2], model.dtype)
    lengths, tokens = jnp.asarray(lengths), jnp.pad(tokens, ((0, 0), (0, 0), (0, piece)))

    def read(carry, x):
        """One piece of one row, of which a loop runs all: unrolled, they compile for a minute."""
        prompts, state = carry
        row, start = x
        at = jnp.full((lanes,), row)
        count = jnp.clip(lengths[:, row] - start, 0, piece)
        begin = jnp.minimum(start, lengths[:, row])
        ids = jax.lax.dynamic_slice_in_dim(tokens[:, row], start, piece, axis=1)
        made, pieces = model.extend(params, ids, at, begin, count, prompts)
        prompts = kv.write_prompt(prompts, pieces, at, begin, count, spec.windows)
        state = jnp.where(count[:, None] > 0, made, state)
        return (prompts, state), state

    starts = jnp.arange(0, tokens.shape[2] - piece, piece)
    order = jnp.repeat(jnp.arange(rows), len(starts)), jnp.tile(starts, rows)
    state = jnp.zeros((lanes, spec.embed_dim), model.dtype)
    (prompts, _), states = jax.lax.scan(read, (prompts, state), order)
    last = jnp.moveaxis(states[len(starts) - 1 :: len(starts)], 0, 1)
    cache = kv.empty_samples(spec, lanes, rows * samples, steps, model.dtype)
    slot = jnp.broadcast_to(jnp.arange(rows * samples), (lanes, rows * samples))

    def feed(cache, x):
        step, fed = x
        seats = Seats(
            slot // samples, slot % samples, jnp.full(slot.shape, step), jnp.ones(slot.shape, bool)
        )
        fed = fed.reshape(lanes, -1)
        x, cache = model.decode(params, fed, seats, prompts, cache, places=samples)
        return cache, x.reshape(lanes, rows, samples, -1)

    xs = jnp.arange(steps), jnp.moveaxis(jnp.asarray(new), 3, 0)
    _, hidden = jax.lax.scan(feed, cache, xs)
    return last, jnp.moveaxis(hidden, 0, 3)
