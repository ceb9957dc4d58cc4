"""The GRPO objective over rollouts: what it reports, and at which temperature it scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.policy_loss import make_scorer, policy_loss
from grm_jax.train.rollout import RolloutBatch

ROWS, LENGTH, VOCAB = 4, 10, 32


@pytest.fixture(scope="module")
def batch():
    """Rows that write 7, 1, 3 and 0 tokens; the old and the reference policy are others."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCAB, (ROWS, LENGTH + 1)).astype(np.int32)
    mask = np.zeros((ROWS, LENGTH), bool)
    for row, written in enumerate((7, 1, 3, 0)):
        mask[row, 2 : 2 + written] = True
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    sampled, old, reference = rng.normal(-3, 0.5, (3, ROWS, LENGTH)).astype(np.float32)
    gain = np.array([1, -1, -1, 1], np.float32)
    return RolloutBatch(ids[:, :-1], ids[:, 1:], mask, positions, gain, sampled, old, reference)


def by_hand(model, params, batch, temperature):
    """(log-probabilities of the targets, entropies), [B, T], from all the logits."""
    hidden = model.hidden(params, jnp.asarray(batch.tokens), jnp.asarray(batch.positions))
    logits = np.asarray(model.logits(params, hidden), np.float64) / temperature
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = np.take_along_axis(p, batch.targets[..., None], -1)[..., 0]
    return np.log(picked), -(p * np.log(p)).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_what_is_reported_are_sums_over_tokens_at_the_temperature_of_the_draws(
    model, params, batch, temperature
):
    """TRL's means are over all tokens of a batch: a long sequence weighs more in them."""
    config = GRPOLossConfig(beta=0.1, clip_low=0.2, clip_high=0.2)
    loss = policy_loss(model, config, on_policy=False, chunk=4, temperature=temperature)
    value, count, sums = jax.jit(loss)(params, batch)
    logprob, entropy = by_hand(model, params, batch, temperature)
    own, gain = batch.mask, batch.advantage[:, None]
    ratio = np.exp(logprob - batch.old_logprob)
    difference = batch.reference_logprob - logprob
    kl = np.exp(difference) - difference - 1
    wanted = {
        "kl": kl[own].sum(),
        "entropy": entropy[own].sum(),
        "clip_ratio/low_mean": ((ratio < 0.8) & (gain < 0))[own].sum(),
        "clip_ratio/high_mean": ((ratio > 1.2) & (gain > 0))[own].sum(),
    }
    assert wanted["clip_ratio/low_mean"] > 0
    for name, number in wanted.items():
        np.testing.assert_allclose(sums[name], number, rtol=1e-4, err_msg=name)
    # The sampler tells the model's own log-probabilities, so they are compared with those.
    drift = np.abs(by_hand(model, params, batch, 1.0)[0] - batch.sampled_logprob)
    drift = np.where(own, drift, 0).max(1).sum()
    np.testing.assert_allclose(sums["sampling/logprob_drift"], drift, rtol=1e-4)
    # The loss stays a mean over sequences (equation 15).
    gained = np.minimum(ratio * gain, np.clip(ratio, 0.8, 1.2) * gain)
    each = np.where(own, 0.1 * kl - gained, 0).sum(1) / np.maximum(own.sum(1), 1)
    np.testing.assert_allclose(value, each.sum(), rtol=1e-4)
    assert count == ROWS


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_scorer_scores_at_the_temperature_of_the_draws(model, params, batch, temperature):
    score = make_scorer(model, ComputeConfig(microbatches=2, logits_chunk=4), temperature)
    found = score(params, jax.tree.map(jnp.asarray, batch))
    logprob, _ = by_hand(model, params, batch, temperature)
    np.testing.assert_allclose(found, logprob, rtol=1e-4, atol=1e-5)


def test_without_a_kl_term_no_divergence_is_reported(model, params, batch):
    loss = policy_loss(model, GRPOLossConfig(beta=0.0), on_policy=True, chunk=16)
    assert "kl" not in jax.eval_shape(loss, params, batch)[2]
