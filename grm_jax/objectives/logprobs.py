"""Log-probabilities of given tokens, without ever holding all the logits.

A row of 4096 tokens over Gemma-2's vocabulary is 4 GiB of f32 logits, and backward wants them
again: the memory peak of training. So the length is cut into chunks, each chunk's logits live
only inside its step of a scan, and the backward pass makes them a second time.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models.model import Model
from grm_jax.sharding import constrain


class TokenLogprobs(NamedTuple):
    """What a model gives to the tokens that came: log p(target), the entropy of p (nats), and
    log p(target) at temperature 1, where that is another one."""

    logprob: Array
    entropy: Array | None
    unscaled: Array | None


def token_logprobs(
    model: Model,
    params: dict,
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    *,
    chunk: int,
    entropy: bool = False,
    temperature: float = 1.0,
) -> TokenLogprobs:
    """log p(targets[b, t] | hidden[b, t]) in f32, [B, T], under the soft-capped logits.

    Args:
        model: gives the logits (the final soft cap is inside them).
        params: its weights.
        hidden: states after the final norm, so hidden[:, t] predicts targets[:, t].
        targets: token ids; on padding any valid id will do, mask its result.
        chunk: how many positions have logits at the same time; T need not be a multiple.
        entropy: also -sum p log p of each position, [B, T]; otherwise None.
        temperature: what p divides the logits by: that at which the tokens were drawn.

    Raises:
        ValueError: chunk is not positive.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it counts positions: give 1 or more.")
    batch, length, width = hidden.shape

    def read(hidden: Array, targets: Array) -> TokenLogprobs:
        logits = model.logits(params, hidden)
        # A sum over a comparison, not a gather: its gradient is no scatter, and it stays local
        # where the vocabulary is sharded.
        here = targets[..., None] == jnp.arange(logits.shape[-1])

        def score(logits: Array) -> tuple[Array, Array]:
            log_z = jax.nn.logsumexp(logits, axis=-1)
            return jnp.sum(jnp.where(here, logits, 0.0), axis=-1) - log_z, log_z

        unscaled = None
        if temperature != 1:
            unscaled = jax.lax.stop_gradient(score(logits)[0])
            logits = logits / temperature
        logprob, log_z = score(logits)
        if not entropy:
            return TokenLogprobs(logprob, None, unscaled)
        p = jnp.exp(logits - log_z[..., None])
        return TokenLogprobs(logprob, log_z - jnp.sum(p * logits, axis=-1), unscaled)

    with jax.named_scope("token_logprobs"):
        if length <= chunk:  # recomputing the only chunk would save nothing
            return jax.tree.map(lambda x: constrain(x, ("batch", None)), read(hidden, targets))
        chunks = -(-length // chunk)
        tail = chunks * chunk - length
        hidden = jnp.pad(hidden, ((0, 0), (0, tail), (0, 0)))
        targets = jnp.pad(targets, ((0, 0), (0, tail)))
        xs = (
            hidden.reshape(batch, chunks, chunk, width).swapaxes(0, 1),
            targets.reshape(batch, chunks, chunk).swapaxes(0, 1),
        )
        step = jax.checkpoint(lambda carry, x: (carry, read(*x)), prevent_cse=False)
        _, found = jax.lax.scan(step, None, xs)

    def flat(x: Array) -> Array:
        x = x.swapaxes(0, 1).reshape(batch, chunks * chunk)[:, :length]
        return constrain(x, ("batch", None))

    return jax.tree.map(flat, found)
