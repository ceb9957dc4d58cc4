"""How one token is chosen: temperature, top-k, top-p, greedy, from a single uniform draw.

All settings are traced values, so a new temperature does not recompile. A token costs one
uniform number (inverse of the cumulative distribution) instead of one Gumbel draw per vocabulary
entry, and the filters bisect a threshold instead of sorting the vocabulary.
The vocabulary comes first, as `decoding_layers.logits` gives it: on a CPU
that product is the faster one.
Letters: V vocabulary, N rows.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int


def choose(
    logits: Float[Array, "V N"],
    uniform: Float[Array, " N"],
    settings: tuple[ArrayLike, ArrayLike, ArrayLike],
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
    """Picks a token per row; returns it with its log-probability under the unfiltered softmax.

    `uniform` lies in [0, 1). The log-probability is the model's own (temperature 1, no filter),
    which is what a trainer computes for the same token.
    """
    temperature, top_k, top_p = map(jnp.asarray, settings)
    shifted = logits - logits.max(0)

    def draw(shifted: Array) -> Array:
        mass = jnp.exp(shifted / temperature)
        mass = jax.lax.cond(top_k > 0, lambda m: _keep_top_k(m, top_k), lambda m: m, mass)
        mass = jax.lax.cond(top_p < 1, lambda m: _keep_top_p(m, top_p), lambda m: m, mass)
        return inverse_cdf(mass, uniform)

    def best(shifted: Array) -> Array:
        return jnp.argmax(shifted, axis=0).astype(jnp.int32)

    token = jax.lax.cond(temperature > 0, draw, best, shifted)
    chosen = jnp.take_along_axis(shifted, token[None], axis=0)[0]
    return token, chosen - jnp.log(jnp.sum(jnp.exp(shifted), axis=0))


def inverse_cdf(mass: Float[Array, "V N"], uniform: Float[Array, " N"]) -> Int[Array, " N"]:
    """The index where the running sum of `mass` passes `uniform` x its total.

    Two levels (blocks, then inside one block), and never an entry of mass zero, whatever the
    rounding. `mass` need not sum to one.
    """
    v, n = mass.shape
    size = 1 << (v.bit_length() - 1) // 2  # about sqrt(V): 256 of 256k
    blocks = jnp.pad(mass, ((0, -v % size), (0, 0))).reshape(-1, size, n)
    block_mass = blocks.sum(1)
    running = jnp.cumsum(block_mass, axis=0)
    target = uniform * running[-1]
    block = _first_above(running, block_mass, target)
    inside = jnp.take_along_axis(blocks, block[None, None], axis=0)[0]
    before = jnp.take_along_axis(running, jnp.maximum(block - 1, 0)[None], axis=0)[0]
    before = jnp.where(block > 0, before, 0.0)
    entry = _first_above(jnp.cumsum(inside, axis=0), inside, target - before)
    return (block * size + entry).astype(jnp.int32)


def _first_above(
    running: Float[Array, "M N"], mass: Float[Array, "M N"], target: Float[Array, " N"]
) -> Int[Array, " N"]:
    """First index whose running sum exceeds target, held to the entries that have mass."""
    index = jnp.sum(running <= target, axis=0)
    has_mass = mass > 0
    last = mass.shape[0] - 1 - jnp.argmax(has_mass[::-1], axis=0)
    at_or_after = has_mass & (jnp.arange(mass.shape[0])[:, None] >= index)
    return jnp.where(index > last, last, jnp.argmax(at_or_after, axis=0))


def _keep_top_k(probs: Float[Array, "V N"], top_k: Int[Array, ""]) -> Float[Array, "V N"]:
    threshold = _largest_threshold(probs, lambda kept: kept.sum(0) >= top_k)
    return jnp.where(probs >= threshold, probs, 0.0)


def _keep_top_p(probs: Float[Array, "V N"], top_p: Float[Array, ""]) -> Float[Array, "V N"]:
    """The smallest set of most probable tokens that holds `top_p` of what is left."""
    wanted = top_p * probs.sum(0)
    threshold = _largest_threshold(probs, lambda kept: (probs * kept).sum(0) >= wanted)
    return jnp.where(probs >= threshold, probs, 0.0)


def _largest_threshold(
    probs: Float[Array, "V N"],
    enough: Callable[[Bool[Array, "V N"]], Bool[Array, " N"]],
) -> Float[Array, " N"]:
    """The largest t for which the entries >= t are `enough`: bisection over the floats' bits.

    Non-negative floats are ordered as their bit patterns are, so 31 halvings are exact; no sort.
    """
    low = jnp.zeros(probs.shape[1:], jnp.int32)
    high = jax.lax.bitcast_convert_type(probs.max(0), jnp.int32) + 1

    def halve(_: Int[Array, ""], bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        as_float = jax.lax.bitcast_convert_type(middle, jnp.float32)
        good = enough(probs >= as_float)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, 31, halve, (low, high))
    return jax.lax.bitcast_convert_type(low, jnp.float32)
