"""The GRPO objective over whole rollouts: the policy's loss for `make_step`, and their scoring.

Letters: P prompts, G judgments of one prompt, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from grm_jax.metric_names import DRIFT, ENTROPY, KL
from grm_jax.models.config import Remat
from grm_jax.models.model import Model
from grm_jax.models.transformer import Watch, Watched
from grm_jax.objectives.config import GRPOLossConfig, RouterLossConfig
from grm_jax.objectives.grpo import token_terms, token_weights
from grm_jax.objectives.logprobs import TokenLogprobs, token_logprobs, token_loss
from grm_jax.objectives.routing import with_router_loss
from grm_jax.sharding import constrain
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.step import Metrics, SumLoss

# The metrics that the loss sums over tokens, for TRL's means are over all tokens of a batch. The
# loss itself is a mean over sequences.
LOW, HIGH = "clip_ratio/low_mean", "clip_ratio/high_mean"
SUMMED = (KL, ENTROPY, LOW, HIGH)


def policy_loss(
    model: Model,
    config: GRPOLossConfig,
    *,
    on_policy: bool,
    chunk: int,
    remat: Remat = "none",
    temperature: float = 1.0,
    router: RouterLossConfig | None = None,
) -> SumLoss:
    """The loss of `make_step` for a RolloutBatch: summed over sequences (equation 15).

    Args:
        on_policy: the batch was written by these very weights, so the old log-probabilities are
            the new ones; otherwise they are read from the batch.
        temperature: at which it was written. The policy is the model at that temperature.
        router: what is added of a model with experts, whose loads are reported; None: neither.
    """

    def objective(scored: TokenLogprobs, data: Any) -> tuple[Array, Metrics]:
        sampled, old, reference, advantage, weight = data
        if on_policy:
            old = jax.lax.stop_gradient(scored.logprob)
        terms = token_terms(scored.logprob, old, reference, advantage, config)
        # The sampler reports the model's own log-probabilities, whatever it draws at.
        model_logprob = scored.logprob if scored.unscaled is None else scored.unscaled
        report = {
            ENTROPY: scored.entropy,
            LOW: terms.clipped_low,
            HIGH: terms.clipped_high,
            DRIFT: jnp.abs(model_logprob - sampled),
            # TRL too says nothing of a divergence that is no part of the loss.
            **({KL: terms.kl} if config.beta else {}),
        }
        return weight * terms.loss, report

    def loss(params: Any, batch: RolloutBatch) -> tuple[jax.Array, jax.Array, Metrics]:
        seen: list[Watched] = []
        hidden = _hidden(model, params, batch, remat, seen.append if router else None)
        mask = batch.mask
        per_token = jnp.broadcast_to(batch.advantage[..., None], mask.shape)
        weight = jnp.broadcast_to(token_weights(mask), mask.shape)
        old, reference = batch.old_logprob, batch.reference_logprob
        total, report = token_loss(
            model,
            params,
            hidden,
            _flat(batch.tokens),
            _flat(mask),
            objective,
            tuple(map(_flat, (batch.sampled_logprob, old, reference, per_token, weight))),
            chunk=chunk,
            entropy=True,
            temperature=temperature,
        )
        # Of each sequence the largest difference between the sampler's and the trainer's.
        drift = report.pop(DRIFT).reshape(mask.shape).max(axis=-1)
        sums = {name: jnp.sum(x, dtype=jnp.float32) for name, x in report.items()}
        sequences = jnp.asarray(batch.advantage.size, jnp.float32)
        prompts, group = batch.advantage.shape
        total, gates = with_router_loss(total, jnp.full(prompts, group, jnp.float32), seen, router)
        return total, sequences, {**sums, DRIFT: drift.sum(), **gates}

    return loss


def _hidden(
    model: Model,
    params: Any,
    batch: RolloutBatch,
    remat: Remat = "none",
    watch: Watch | None = None,
) -> Float[Array, "P GT D"]:
    """The states that predict what the policy wrote."""
    hidden = model.group_hidden(
        params,
        batch.prompts,
        batch.prompt_positions,
        batch.tokens,
        batch.positions,
        remat=remat,
        watch=watch,
    )
    return constrain(_flat(hidden), ("batch", None, None))


def _flat(x: Array) -> Array:
    """[P, G, T, ..] as [P, G * T, ..]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def make_scorer(
    model: Model, compute: ComputeConfig, temperature: float = 1.0
) -> Callable[[Any, RolloutBatch], jax.Array]:
    """score(params, batch) -> log-probabilities [P, G, T] of what was written, in micro-batches."""

    def score(params: Any, batch: RolloutBatch) -> jax.Array:
        prompts = batch.prompts.shape[0] // compute.microbatches
        parts = jax.tree.map(lambda x: x.reshape(-1, prompts, *x.shape[1:]), batch)

        def one(part: RolloutBatch) -> jax.Array:
            return token_logprobs(
                model,
                params,
                _hidden(model, params, part),
                _flat(part.tokens),
                _flat(part.mask),
                chunk=compute.logits_chunk,
                temperature=temperature,
            ).logprob

        scores = jax.lax.map(one, parts).reshape(batch.tokens.shape)
        return constrain(scores, ("batch", None, None))

    return jax.jit(score)
