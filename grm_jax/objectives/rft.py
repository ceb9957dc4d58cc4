"""The loss of supervised and rejective fine-tuning: the masked log-likelihood of completions."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def rft_loss(
    logprobs: Float[Array, "B T"], mask: Bool[Array, "B T"]
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Negative log-likelihood of each row's target tokens: (its sum in nats, how many there are).

    The caller divides the sum over a batch by the count over the batch. A mean per row or per
    micro-batch would weigh a token by what it happened to be packed with.

    Args:
        logprobs: log p of each target token.
        mask: True where the target is to be learned (the completion; not prompt, not padding).
    """
    # where, not a product: what stands on padding must not matter, not even if it is not finite.
    return -jnp.sum(jnp.where(mask, logprobs, 0.0), axis=-1), jnp.sum(mask, -1, logprobs.dtype)
