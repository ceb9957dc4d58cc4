"""The GRPO objective over whole rollouts: the policy's loss for `make_step`, and their scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from grm_jax.metric_names import DRIFT, ENTROPY, KL
from grm_jax.models.model import Model
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.objectives.grpo import grpo_loss
from grm_jax.objectives.logprobs import token_logprobs
from grm_jax.sharding import constrain
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.step import Metrics, SumLoss

# The metrics that the loss sums over tokens, for TRL's means are over all tokens of a batch. The
# loss itself is a mean over sequences.
SUMMED = (KL, ENTROPY, "clip_ratio/low_mean", "clip_ratio/high_mean")


def policy_loss(
    model: Model,
    config: GRPOLossConfig,
    *,
    on_policy: bool,
    chunk: int,
    remat: bool = False,
    temperature: float = 1.0,
) -> SumLoss:
    """The loss of `make_step` for a RolloutBatch: summed over sequences (equation 15).

    Args:
        on_policy: the batch was written by these very weights, so the old log-probabilities are
            the new ones; otherwise they are read from the batch.
        temperature: at which it was written. The policy is the model at that temperature.
    """

    def loss(params: Any, batch: RolloutBatch) -> tuple[jax.Array, jax.Array, Metrics]:
        hidden = model.hidden(params, batch.tokens, batch.positions, remat=remat)
        scored = token_logprobs(
            model,
            params,
            hidden,
            batch.targets,
            chunk=chunk,
            entropy=True,
            temperature=temperature,
        )
        logprob, entropy = scored.logprob, scored.entropy
        assert entropy is not None
        old = jax.lax.stop_gradient(logprob) if on_policy else batch.old_logprob
        terms = grpo_loss(
            logprob, old, batch.reference_logprob, batch.advantage, batch.mask, config
        )
        # The sampler reports the model's own log-probabilities, whatever it draws at.
        model_logprob = logprob if scored.unscaled is None else scored.unscaled
        # Of each sequence the largest difference between the sampler's and the trainer's.
        drift = jnp.where(batch.mask, jnp.abs(model_logprob - batch.sampled_logprob), 0.0)
        count = jnp.asarray(batch.mask.shape[0], jnp.float32)
        return (
            terms.loss.sum(),
            count,
            {
                # TRL too says nothing of a divergence that is no part of the loss.
                **({KL: terms.kl.sum()} if config.beta else {}),
                ENTROPY: jnp.sum(jnp.where(batch.mask, entropy, 0.0)),
                "clip_ratio/low_mean": terms.clipped_low.sum(),
                "clip_ratio/high_mean": terms.clipped_high.sum(),
                DRIFT: drift.max(axis=1).sum(),
            },
        )

    return loss


def make_scorer(
    model: Model, compute: ComputeConfig, temperature: float = 1.0
) -> Callable[[Any, RolloutBatch], jax.Array]:
    """score(params, batch) -> log-probabilities [B, T] of the batch's targets, in micro-batches."""

    def score(params: Any, batch: RolloutBatch) -> jax.Array:
        rows = batch.tokens.shape[0] // compute.microbatches
        parts = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), batch)

        def one(part: RolloutBatch) -> jax.Array:
            hidden = model.hidden(params, part.tokens, part.positions)
            chunk = compute.logits_chunk
            return token_logprobs(
                model, params, hidden, part.targets, chunk=chunk, temperature=temperature
            ).logprob

        scores = jax.lax.map(one, parts).reshape(batch.tokens.shape)
        return constrain(scores, ("batch", None))

    return jax.jit(score)
