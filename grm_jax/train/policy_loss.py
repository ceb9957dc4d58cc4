"""The GRPO objective over whole rollouts: the policy's loss for `make_step`, and their scoring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from grm_jax.models.model import Model
from grm_jax.objectives.grpo import GRPOLossConfig, grpo_loss
from grm_jax.objectives.logprobs import token_logprobs
from grm_jax.sharding import constrain
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.step import Metrics, SumLoss

# The metrics that the loss sums over sequences. The drift is each sequence's largest difference
# between the sampler's log-probability of a token and the trainer's.
SUMMED = ("kl", "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "sampling/logprob_drift")


def policy_loss(
    model: Model, config: GRPOLossConfig, *, on_policy: bool, chunk: int, remat: bool = False
) -> SumLoss:
    """The loss of `make_step` for a RolloutBatch: summed over sequences (equation 15).

    on_policy: the batch was written by these very weights, so the old log-probabilities are the
    new ones; otherwise they are read from the batch.
    """

    def loss(params: Any, batch: RolloutBatch) -> tuple[jax.Array, jax.Array, Metrics]:
        found = _read_logprobs(model, params, batch, chunk=chunk, remat=remat, entropy=True)
        logprob, entropy = found.logprob, found.entropy
        old = jax.lax.stop_gradient(logprob) if on_policy else batch.old_logprob
        terms = grpo_loss(
            logprob, old, batch.reference_logprob, batch.advantage, batch.mask, config
        )
        own = jnp.maximum(batch.mask.sum(axis=1), 1)
        drift = jnp.where(batch.mask, jnp.abs(logprob - batch.sampled_logprob), 0.0)
        count = jnp.asarray(batch.mask.shape[0], jnp.float32)
        return (
            terms.loss.sum(),
            count,
            {
                "kl": terms.kl.sum(),
                "entropy": jnp.sum(jnp.sum(jnp.where(batch.mask, entropy, 0.0), axis=1) / own),
                "clip_ratio/low_mean": terms.clipped_low.sum(),
                "clip_ratio/high_mean": terms.clipped_high.sum(),
                "sampling/logprob_drift": drift.max(axis=1).sum(),
            },
        )

    return loss


def make_scorer(model: Model, compute: ComputeConfig) -> Callable[[Any, RolloutBatch], jax.Array]:
    """score(params, batch) -> log-probabilities [B, T] of the batch's targets, in micro-batches."""

    def score(params: Any, batch: RolloutBatch) -> jax.Array:
        rows = batch.tokens.shape[0] // compute.microbatches
        parts = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), batch)

        def one(part: RolloutBatch) -> jax.Array:
            return _read_logprobs(model, params, part, chunk=compute.logits_chunk).logprob

        found = jax.lax.map(one, parts).reshape(batch.tokens.shape)
        return constrain(found, ("batch", None))

    return jax.jit(score)


def _read_logprobs(
    model: Model,
    params: Any,
    batch: RolloutBatch,
    *,
    chunk: int,
    remat: bool = False,
    entropy: bool = False,
) -> Any:
    hidden = model.hidden(params, batch.tokens, batch.positions, remat=remat)
    return token_logprobs(model, params, hidden, batch.targets, chunk=chunk, entropy=entropy)
