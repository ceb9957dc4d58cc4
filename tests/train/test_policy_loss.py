"""The GRPO objective over rollouts: what it reports, and at which temperature it scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.objectives.grpo import grpo_loss
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.policy_loss import make_scorer, policy_loss
from grm_jax.train.rollout import RolloutBatch

PROMPTS, GROUP, S, T, VOCAB = 2, 2, 6, 7, 32


@pytest.fixture(scope="module")
def batch():
    """Judgments of 7, 1, 3 and 0 tokens; the old and the reference policy are others."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(0, VOCAB, (PROMPTS, S)).astype(np.int32)
    prompt_positions = np.stack([np.arange(S), np.r_[-1, -1, np.arange(S - 2)]]).astype(np.int32)
    tokens = rng.integers(0, VOCAB, (PROMPTS, GROUP, T)).astype(np.int32)
    own = np.arange(T) < np.array([[7, 1], [3, 0]])[..., None]
    lengths = np.array([S, S - 2])[:, None, None]
    positions = np.where(own, lengths + np.arange(T), -1).astype(np.int32)
    sampled, old, reference = rng.normal(-3, 0.5, (3, *own.shape)).astype(np.float32)
    gain = np.array([[1, -1], [-1, 1]], np.float32)
    return RolloutBatch(prompts, prompt_positions, tokens, positions, gain, sampled, old, reference)


def rows_of(batch):
    """(tokens, positions) [PG, S + T]: every judgment behind a copy of its prompt."""
    spread = lambda x: np.repeat(x, batch.tokens.shape[1], axis=0)  # noqa: E731
    flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    return (
        jnp.concatenate([spread(batch.prompts), flat(batch.tokens)], 1),
        jnp.concatenate([spread(batch.prompt_positions), flat(batch.positions)], 1),
    )


def plain_logits(model, params, batch):
    """Logits of every token that was written, [P, G, T, V], without groups and chunks."""
    hidden = model.hidden(params, *rows_of(batch))[:, batch.prompts.shape[1] - 1 : -1]
    return model.logits(params, hidden).reshape(*batch.tokens.shape, -1)


def by_hand(model, params, batch, temperature):
    """(log-probabilities of the tokens, entropies), [P, G, T], from all the logits."""
    logits = np.asarray(plain_logits(model, params, batch), np.float64) / temperature
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = np.take_along_axis(p, batch.tokens[..., None], -1)[..., 0]
    return np.log(picked), -(p * np.log(p)).sum(-1)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_what_is_reported_are_sums_over_tokens_at_the_temperature_of_the_draws(
    model, params, batch, temperature
):
    """TRL's means are over all tokens of a batch: a long sequence weighs more in them."""
    config = GRPOLossConfig(beta=0.1, clip_low=0.2, clip_high=0.2)
    loss = policy_loss(model, config, on_policy=False, chunk=8, temperature=temperature)
    value, count, sums = jax.jit(loss)(params, batch)
    logprob, entropy = by_hand(model, params, batch, temperature)
    own, gain = batch.mask, batch.advantage[..., None]
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
    drift = np.where(own, drift, 0).max(-1).sum()
    np.testing.assert_allclose(sums["sampling/logprob_drift"], drift, rtol=1e-4)
    # The loss stays a mean over sequences (equation 15).
    gained = np.minimum(ratio * gain, np.clip(ratio, 0.8, 1.2) * gain)
    each = np.where(own, 0.1 * kl - gained, 0).sum(-1) / np.maximum(own.sum(-1), 1)
    np.testing.assert_allclose(value, each.sum(), rtol=1e-4)
    assert count == PROMPTS * GROUP


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_scorer_scores_at_the_temperature_of_the_draws(model, params, batch, temperature):
    score = make_scorer(model, ComputeConfig(microbatches=2, logits_chunk=4), temperature)
    found = score(params, jax.tree.map(jnp.asarray, batch))
    logprob, _ = by_hand(model, params, batch, temperature)
    wanted = np.where(batch.mask, logprob, 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def plain_loss(model, config, params, batch, on_policy, temperature):
    """Equation 15 from all logits of all rows at once."""
    logits = plain_logits(model, params, batch) / temperature
    logprob = jax.nn.log_softmax(logits)
    logprob = jnp.take_along_axis(logprob, batch.tokens[..., None], -1)[..., 0]
    old = jax.lax.stop_gradient(logprob) if on_policy else batch.old_logprob
    flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    given = map(flat, (logprob, old, batch.reference_logprob))
    return grpo_loss(*given, batch.advantage.reshape(-1), flat(batch.mask), config).loss.sum()


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "attention", "dots", "full"])
@pytest.mark.parametrize(("on_policy", "temperature"), [(True, 1.0), (False, 0.7)])
def test_loss_and_every_gradient_are_those_of_the_plain_computation(
    model, params, batch, on_policy, temperature, remat
):
    config = GRPOLossConfig(beta=0.3)
    params = jax.tree.map(lambda p: 8 * p, params)  # so that attention is not even
    batch = jax.tree.map(jnp.asarray, batch)

    @jax.jit
    def plain(params):
        return plain_loss(model, config, params, batch, on_policy, temperature)

    loss = policy_loss(
        model, config, on_policy=on_policy, chunk=6, remat=remat, temperature=temperature
    )
    wanted, slope = jax.value_and_grad(plain)(params)
    found, grads = jax.jit(jax.value_and_grad(lambda p: loss(p, batch)[0]))(params)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(slope), strict=True
    ):
        error = np.abs(a - b).max() / np.abs(b).max()
        assert error < 1e-5, (jax.tree_util.keystr(path), error)


@pytest.mark.slow
def test_rubbish_on_padding_changes_neither_loss_nor_gradient(model, params, batch):
    own, at = batch.mask, batch.prompt_positions >= 0
    rng = np.random.default_rng(5)
    changed = batch._replace(
        prompts=np.where(at, batch.prompts, rng.integers(0, VOCAB, at.shape)).astype(np.int32),
        tokens=np.where(own, batch.tokens, rng.integers(0, VOCAB, own.shape)).astype(np.int32),
        **{
            name: np.where(own, getattr(batch, name), np.nan)
            for name in ("sampled_logprob", "old_logprob", "reference_logprob")
        },
    )
    loss = policy_loss(model, GRPOLossConfig(), on_policy=False, chunk=6)
    run = jax.jit(jax.value_and_grad(loss_and_sums(loss), has_aux=True))
    for a, b in zip(*(jax.tree.leaves(run(params, x)) for x in (batch, changed)), strict=True):
        np.testing.assert_array_equal(a, b)


def loss_and_sums(loss):
    def both(params, batch):
        value, _, sums = loss(params, batch)
        return value, sums

    return both


def test_without_a_kl_term_no_divergence_is_reported(model, params, batch):
    loss = policy_loss(model, GRPOLossConfig(beta=0.0), on_policy=True, chunk=16)
    assert "kl" not in jax.eval_shape(loss, params, batch)[2]
