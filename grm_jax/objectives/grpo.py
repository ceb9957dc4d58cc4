"""GRPO (equation 15 of the paper): group advantages, and the clipped objective with its KL term.

Letters: B sequences, P prompts, G sequences of one prompt, T tokens.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from grm_jax.objectives.config import GRPOLossConfig


class PolicyTerms(NamedTuple):
    """Per sequence: what to minimise, averaged over the sequence's own tokens (equation 15); and,
    to be reported, sums over its tokens: the KL estimate, and how many tokens had their ratio
    clipped from below and from above."""

    loss: Array
    kl: Array
    clipped_low: Array
    clipped_high: Array


def group_advantages(
    rewards: Float[Array, "P G"], std: Literal["population", "sample", "none"] = "population"
) -> Float[Array, "P G"]:
    """(reward - mean of its group) / standard deviation of its group; 0 where all are equal.

    Without an epsilon in the denominator: rewards of +1 and -1 are either equal or far apart.
    """
    # Read off the rewards: the mean of 41 ones is not one in f32, and no spread is all rounding.
    equal = rewards.max(axis=1, keepdims=True) == rewards.min(axis=1, keepdims=True)
    centred = jnp.where(equal, 0.0, rewards - rewards.mean(axis=1, keepdims=True))
    if std == "none":
        return centred
    free = max(rewards.shape[1] - (std == "sample"), 1)
    spread = jnp.sqrt(jnp.sum(centred**2, axis=1, keepdims=True) / free)
    return centred / jnp.where(equal, 1.0, spread)


def grpo_loss(
    logprob: Float[Array, "B T"],
    old_logprob: Float[Array, "B T"],
    reference_logprob: Float[Array, "B T"],
    advantage: Float[Array, " B"],
    mask: Bool[Array, "B T"],
    config: GRPOLossConfig,
) -> PolicyTerms:
    """The negative of equation 15's inner mean, one value per sequence.

    Args:
        logprob: of the policy that is trained (the gradient flows through this one).
        old_logprob: of the policy that wrote the tokens; `stop_gradient(logprob)` on the first
            update after a rollout, where the ratio is 1 and the gradient is REINFORCE's.
        reference_logprob: of the frozen reference; not used if beta is 0.
        advantage: the same for every token of a sequence.
        mask: True on the tokens that the policy wrote. A sequence without any gives 0.
    """
    # Padding may hold anything, and exp of anything may overflow into the gradient.
    logprob, old_logprob, reference_logprob = (
        jnp.where(mask, x, 0.0) for x in (logprob, old_logprob, reference_logprob)
    )
    terms = token_terms(logprob, old_logprob, reference_logprob, advantage[:, None], config)
    loss, *sums = (jnp.sum(jnp.where(mask, x, 0.0), 1) for x in terms)
    return PolicyTerms(loss * token_weights(mask)[:, 0], *sums)


def token_terms(
    logprob: Float[Array, "*N"],
    old_logprob: Float[Array, "*N"],
    reference_logprob: Float[Array, "*N"],
    advantage: Float[Array, "*M"],
    config: GRPOLossConfig,
) -> PolicyTerms:
    """The same of each token by itself, before the mean."""
    ratio = jnp.exp(logprob - old_logprob)
    low, high = 1.0 - config.clip_low, 1.0 + config.clip_high
    policy = jnp.minimum(ratio * advantage, jnp.clip(ratio, low, high) * advantage)
    kl = _kl(reference_logprob - logprob, config.kl) if config.beta else jnp.zeros_like(logprob)
    return PolicyTerms(
        loss=config.beta * kl - policy,
        kl=kl,
        clipped_low=(ratio < low) & (advantage < 0),
        clipped_high=(ratio > high) & (advantage > 0),
    )


def token_weights(mask: Bool[Array, "*B T"]) -> Float[Array, "*B 1"]:
    """What a token counts in the mean over its sequence."""
    return 1.0 / jnp.maximum(mask.sum(-1, keepdims=True), 1)


def _kl(difference: Float[Array, "*N"], estimator: str) -> Float[Array, "*N"]:
    """KL(policy || reference) per token, from d = log reference - log policy (Schulman, 2020)."""
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference**2 / 2
    return jnp.expm1(difference) - difference
