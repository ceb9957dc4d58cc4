"""The loss of supervised and rejective fine-tuning: the masked log-likelihood of completions."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from grm_jax.models.model import Model
from grm_jax.objectives.logprobs import token_loss


def rft_loss(
    model: Model,
    params: dict,
    hidden: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    mask: Bool[Array, "B T"],
    *,
    chunk: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Negative log-likelihood of a batch's target tokens: (its sum in nats, how many there are).

    The caller divides the sum over a batch by the count over the batch. A mean per row or per
    micro-batch would weigh a token by what it happened to be packed with.

    Args:
        hidden: states after the final norm, so hidden[:, t] predicts targets[:, t].
        mask: True where the target is to be learned (the completion; not prompt, not padding).
        chunk: see `token_loss`.
    """
    nll, _ = token_loss(
        model,
        params,
        hidden,
        targets,
        mask,
        lambda scored, _: (-scored.logprob, ()),
        (),
        chunk=chunk,
    )
    return nll, jnp.sum(mask, dtype=nll.dtype)
