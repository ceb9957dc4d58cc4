"""How one token is chosen: temperature, top-k, top-p, greedy, from a single uniform draw.

All settings are traced values, so a new temperature does not recompile. A token costs one
uniform number (inverse of the cumulative distribution) instead of one Gumbel draw per vocabulary
entry, and the filters bisect a threshold instead of sorting the vocabulary.
Letters: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BLOCK = 256  # entries per block of the two-level inverse CDF: about sqrt(V) at V = 256k is best


def choose(
    logits: Float[Array, "N V"],
    uniform: Float[Array, " N"],
    settings: tuple[Array, Array, Array],
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
    """Picks a token per row; returns it with its log-probability under the unfiltered softmax.

    `uniform` lies in [0, 1). The log-probability is the model's own (temperature 1, no filter),
    which is what a trainer computes for the same token.
    """
    temperature, top_k, top_p = settings
    scaled = logits / jnp.maximum(temperature, 1e-6)
    probs = jax.nn.softmax(scaled, axis=-1)
    probs = jax.lax.cond(top_k > 0, lambda p: _keep_top_k(p, top_k), lambda p: p, probs)
    probs = jax.lax.cond(top_p < 1, lambda p: _keep_top_p(p, top_p), lambda p: p, probs)
    sampled = inverse_cdf(probs, uniform)
    token = jnp.where(temperature > 0, sampled, jnp.argmax(logits, axis=-1)).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0]
    return token, chosen - jax.nn.logsumexp(logits, axis=-1)


def inverse_cdf(probs: Float[Array, "N V"], uniform: Float[Array, " N"]) -> Int[Array, " N"]:
    """The index where the running sum of `probs` passes `uniform` x its total.

    Two levels (blocks, then inside one block), and never an entry of probability zero, whatever
    the rounding. `probs` need not sum to one.
    """
    n, v = probs.shape
    blocks = jnp.pad(probs, ((0, 0), (0, -v % BLOCK))).reshape(n, -1, BLOCK)
    block_mass = blocks.sum(-1)
    running = jnp.cumsum(block_mass, axis=-1)
    target = uniform * running[:, -1]
    block = _first_above(running, block_mass, target)
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    before = jnp.where(
        block > 0, jnp.take_along_axis(running, jnp.maximum(block - 1, 0)[:, None], 1)[:, 0], 0.0
    )
    entry = _first_above(jnp.cumsum(inside, axis=-1), inside, target - before)
    return block * BLOCK + entry


def _first_above(
    running: Float[Array, "N M"], mass: Float[Array, "N M"], target: Float[Array, " N"]
) -> Int[Array, " N"]:
    """First index whose running sum exceeds target, held to the entries that have mass."""
    index = jnp.sum(running <= target[:, None], axis=-1)
    has_mass = mass > 0
    last = mass.shape[1] - 1 - jnp.argmax(has_mass[:, ::-1], axis=-1)
    first_at_or_after = jnp.argmax(
        has_mass & (jnp.arange(mass.shape[1]) >= index[:, None]), axis=-1
    )
    return jnp.where(index > last, last, first_at_or_after)


def _keep_top_k(probs: Float[Array, "N V"], top_k: Int[Array, ""]) -> Float[Array, "N V"]:
    threshold = _largest_threshold(probs, lambda kept: kept.sum(-1) >= top_k)
    return jnp.where(probs >= threshold, probs, 0.0)


def _keep_top_p(probs: Float[Array, "N V"], top_p: Float[Array, ""]) -> Float[Array, "N V"]:
    """The smallest set of most probable tokens that holds `top_p` of what is left."""
    wanted = top_p * probs.sum(-1)
    threshold = _largest_threshold(probs, lambda kept: (probs * kept).sum(-1) >= wanted)
    return jnp.where(probs >= threshold, probs, 0.0)


def _largest_threshold(
    probs: Float[Array, "N V"],
    enough: Callable[[Bool[Array, "N V"]], Bool[Array, " N"]],
) -> Float[Array, "N 1"]:
    """The largest t for which the entries >= t are `enough`: bisection over the floats' bits.

    Non-negative floats are ordered as their bit patterns are, so 31 halvings are exact; no sort.
    """
    low = jnp.zeros(probs.shape[:1], jnp.int32)
    high = jax.lax.bitcast_convert_type(probs.max(-1), jnp.int32) + 1

    def halve(_: Int[Array, ""], bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        as_float = jax.lax.bitcast_convert_type(middle, jnp.float32)
        good = enough(probs >= as_float[:, None])
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, 31, halve, (low, high))
    return jax.lax.bitcast_convert_type(low, jnp.float32)[:, None]
