"""GRPO's objective against its definition, token by token in float64, and what it must not heed."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.objectives.grpo import group_advantages, grpo_loss

B, T = 7, 11
SEEDS = range(3)
CONFIGS = [
    GRPOLossConfig(),
    GRPOLossConfig(beta=0.5, clip_low=0.1, clip_high=0.4, kl="k1"),
    GRPOLossConfig(beta=2.0, clip_low=0.5, clip_high=0.15, kl="k2"),
    GRPOLossConfig(beta=1.0, clip_low=0.3, clip_high=0.05, kl="k3"),
    GRPOLossConfig(beta=0.0, clip_low=1.0, clip_high=0.8),
]


def problem(seed):
    """logprob, old, reference, advantage, mask; ratios on both sides of every clip range."""
    rng = np.random.default_rng(seed)
    logprob = -rng.exponential(2.0, (B, T)).astype(np.float32)
    old = logprob - rng.normal(0, 0.6, (B, T)).astype(np.float32)
    reference = logprob + rng.normal(0, 0.8, (B, T)).astype(np.float32)
    advantage = rng.exponential(1.5, B).astype(np.float32) * np.resize([0, 1, -1], B)
    advantage = advantage.astype(np.float32)
    mask = rng.random((B, T)) < rng.uniform(0.4, 0.9, (B, 1))
    mask[1], mask[2], mask[3] = True, False, np.arange(T) == 4
    return tuple(map(jnp.asarray, (logprob, old, reference, advantage, mask)))


def derive(logprob, old, reference, advantage, mask, config, weights):
    """Loss, KL and the gradient of sum(weights * loss) by the words of equation 15, in float64."""
    logprob, old, reference, advantage, weights = (
        torch.from_numpy(np.array(x, np.float64))
        for x in (logprob, old, reference, advantage, weights)
    )
    logprob.requires_grad_()
    losses, kls = [], []
    for i, row in enumerate(np.asarray(mask)):
        own = np.flatnonzero(row).tolist()
        gain = kl = torch.zeros((), dtype=torch.float64)
        for t in own:
            rho = torch.exp(logprob[i, t]) / torch.exp(old[i, t])
            kept = torch.clamp(rho, 1 - config.clip_low, 1 + config.clip_high)
            gain = gain + torch.minimum(rho * advantage[i], kept * advantage[i])
            u = torch.exp(reference[i, t]) / torch.exp(logprob[i, t])
            kl = kl + {
                "k1": -torch.log(u),
                "k2": 0.5 * torch.log(u) ** 2,
                "k3": u - torch.log(u) - 1,
            }[config.kl] * (config.beta != 0)
        length = max(len(own), 1)
        losses.append(-(gain - config.beta * kl) / length)
        kls.append(kl)
    loss = torch.stack(losses)
    total = (weights * loss).sum() + 0 * logprob.sum()
    (gradient,) = torch.autograd.grad(total, logprob)
    return loss.detach().numpy(), torch.stack(kls).detach().numpy(), gradient.numpy()


def gradient(logprob, old, reference, advantage, mask, config, weights=1.0):
    def total(x):
        return jnp.sum(weights * grpo_loss(x, old, reference, advantage, mask, config).loss)

    return jax.grad(total)(logprob)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_value_and_gradient_are_those_of_the_definition(config, seed):
    inputs = problem(seed)
    weights = jnp.asarray(np.random.default_rng(seed).normal(size=B).astype(np.float32))
    loss, kl, slope = derive(*inputs, config, weights)
    found = grpo_loss(*inputs, config)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        gradient(*inputs, config, weights=weights), slope, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("config", CONFIGS[:4], ids=str)
def test_the_random_problems_visit_every_branch(config):
    parts = zip(*(problem(seed) for seed in SEEDS), strict=True)
    logprob, old, _, advantage, mask = (np.concatenate(part) for part in parts)
    ratio, gain = np.exp(logprob - old), np.broadcast_to(advantage[:, None], mask.shape)
    side = np.where(ratio < 1 - config.clip_low, -1, np.where(ratio > 1 + config.clip_high, 1, 0))
    seen = {(int(s), int(g)) for s, g in zip(side[mask], np.sign(gain)[mask], strict=True)}
    assert seen >= {(s, g) for s in (-1, 0, 1) for g in (-1, 1)}
    assert {0, 1, T} <= set(mask.sum(1).tolist())


def test_jit_changes_nothing():
    inputs = problem(5)
    for config in CONFIGS[:2]:
        jitted = jax.jit(lambda *x, c=config: grpo_loss(*x, c))(*inputs)
        for plain, other in zip(grpo_loss(*inputs, config), jitted, strict=True):
            np.testing.assert_allclose(other, plain, rtol=1e-5, atol=1e-6)
        slope = jax.jit(lambda *x, c=config: gradient(*x, c))(*inputs)
        np.testing.assert_allclose(slope, gradient(*inputs, config), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("std", ["population", "sample", "none"])
@pytest.mark.parametrize("size", [2, 7])
def test_advantages_are_those_of_the_definition(std, size):
    rewards = np.random.default_rng(size).normal(3, 2, (4, size)).astype(np.float32)
    spread = {"population": statistics.pstdev, "sample": statistics.stdev, "none": lambda _: 1.0}
    wanted = []
    for group in rewards.tolist():
        middle = statistics.fmean(group)
        wanted.append([(reward - middle) / spread[std](group) for reward in group])
    for of in (group_advantages, jax.jit(group_advantages, static_argnums=1)):
        np.testing.assert_allclose(of(jnp.asarray(rewards), std), wanted, rtol=1e-5, atol=1e-6)


def test_one_right_of_four_by_hand():
    rewards = jnp.array([[1.0, -1.0, -1.0, -1.0]])  # mean -1/2, sum of squares 3
    for std, spread in (("population", 0.75**0.5), ("sample", 1.0), ("none", 1.0)):
        wanted = [[1.5 / spread] + [-0.5 / spread] * 3]
        np.testing.assert_allclose(group_advantages(rewards, std), wanted, rtol=1e-6)


@pytest.mark.parametrize("std", ["population", "sample", "none"])
@pytest.mark.parametrize("size", [1, 2, 4, 7, 32])
def test_equal_rewards_give_no_advantage(std, size):
    rewards = jnp.asarray([[1.0] * size, [-1.0] * size])
    assert not group_advantages(rewards, std).any()


def test_equal_rewards_give_no_advantage_in_an_awkward_group():
    assert not group_advantages(jnp.ones((1, 41))).any()


def test_equal_rewards_give_no_policy_gradient():
    logprob, old, reference, _, mask = problem(6)
    advantage = group_advantages(jnp.ones((1, B)))[0]
    config = GRPOLossConfig(beta=0.0)
    assert not grpo_loss(logprob, old, reference, advantage, mask, config).loss.any()
    assert not gradient(logprob, old, reference, advantage, mask, config).any()


def test_at_ratio_one_the_gradient_is_reinforce_with_the_group_baseline():
    logprob, _, reference, _, mask = problem(7)
    rewards = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    advantage = group_advantages(jnp.asarray(rewards, jnp.float32)[None])[0]

    def total(x):
        old = jax.lax.stop_gradient(x)
        return grpo_loss(x, old, reference, advantage, mask, GRPOLossConfig(beta=0.0)).loss.sum()

    baselined = (rewards - rewards.mean()) / rewards.std()
    wanted = [
        [-baselined[i] / sum(row) if own else 0.0 for own in row]
        for i, row in enumerate(np.asarray(mask).tolist())
    ]
    np.testing.assert_allclose(jax.grad(total)(logprob), wanted, rtol=1e-6)


def by_ratio(ratios, gain, config, mask=None):
    """One sequence of given ratios: its terms and its gradient."""
    logprob = jnp.log(jnp.asarray([ratios], jnp.float32))
    zero = jnp.zeros_like(logprob)
    mask = jnp.ones(logprob.shape, bool) if mask is None else jnp.asarray([mask])
    inputs = (logprob, zero, zero, jnp.asarray([gain]), mask, config)
    return grpo_loss(*inputs), gradient(*inputs)[0]


# Range 0.8 .. 1.6: two ratios are below, one is above.
RATIOS = [0.5, 0.7, 1.3, 1.5, 1.7]
SKEWED = GRPOLossConfig(beta=0.0, clip_low=0.2, clip_high=0.6)


@pytest.mark.parametrize(("gain", "low", "high"), [(2.0, 0, 1), (-2.0, 2, 0), (0.0, 0, 0)])
def test_only_the_side_that_the_advantage_pushes_to_is_clipped(gain, low, high):
    terms, _ = by_ratio(RATIOS, gain, SKEWED)
    np.testing.assert_allclose(terms.clipped_low, [low], rtol=1e-6)
    np.testing.assert_allclose(terms.clipped_high, [high], rtol=1e-6)


def test_only_the_sequences_own_tokens_count_as_clipped():
    own = [True, False, True, False, False]
    assert by_ratio(RATIOS, -1.0, SKEWED, own)[0].clipped_low.tolist() == [1]
    own = [False, False, True, False, True]
    assert by_ratio(RATIOS, 1.0, SKEWED, own)[0].clipped_high.tolist() == [1]


def test_a_clipped_token_has_no_gradient_and_any_other_has():
    for gain, wanted in (
        (1.0, [-0.5, -0.7, -1.3, -1.5, 0.0]),
        (-1.0, [0.0, 0.0, 1.3, 1.5, 1.7]),
    ):
        terms, slope = by_ratio(RATIOS, gain, SKEWED)
        np.testing.assert_allclose(5 * slope, wanted, rtol=1e-6)
        kept = {1.0: [0.5, 0.7, 1.3, 1.5, 1.6], -1.0: [0.8, 0.8, 1.3, 1.5, 1.7]}[gain]
        np.testing.assert_allclose(terms.loss, [-gain * sum(kept) / 5], rtol=1e-6)


NEAR = st.floats(-(2**-9), 2**-9, width=32)
FAR = st.floats(-30, 30, width=32)
ONE = (jnp.zeros((1, 1)), jnp.zeros(1), jnp.ones((1, 1), bool))


@given(NEAR | FAR)
def test_k3_is_never_negative(distance):
    zero, gain, mask = ONE
    kl = grpo_loss(zero, zero, jnp.full((1, 1), distance), gain, mask, GRPOLossConfig()).kl
    assert kl[0] >= 0


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_equal_policies_have_no_kl(kl):
    logprob, old, _, advantage, mask = problem(8)
    terms = grpo_loss(logprob, old, logprob, advantage, mask, GRPOLossConfig(kl=kl))
    assert not terms.kl.any()


def test_beta_weighs_the_kl_against_the_policy():
    inputs = problem(9)
    none, some = (grpo_loss(*inputs, GRPOLossConfig(beta=b)) for b in (0.0, 0.25))
    assert not none.kl.any()
    assert some.kl.any()
    mean = some.kl / np.maximum(inputs[-1].sum(1), 1)
    np.testing.assert_allclose(some.loss - none.loss, 0.25 * mean, rtol=1e-4, atol=1e-6)


def test_beta_zero_does_not_read_the_reference():
    logprob, old, reference, advantage, mask = problem(10)
    config = GRPOLossConfig(beta=0.0)
    clean = (logprob, old, reference, advantage, mask, config)
    spoilt = (logprob, old, jnp.full_like(reference, jnp.nan), advantage, mask, config)
    for a, b in zip(grpo_loss(*spoilt), grpo_loss(*clean), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(gradient(*spoilt), gradient(*clean))
    assert jnp.isfinite(gradient(*spoilt)).all()


@pytest.mark.parametrize("place", [0, 1, 2], ids=["logprob", "old", "reference"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30, -1e30, 100.0])
def test_padding_cannot_spoil_value_or_gradient(poison, place):
    *clean, mask = problem(11)
    spoilt = list(clean)
    spoilt[place] = jnp.where(mask, clean[place], poison)
    for config in CONFIGS[:3]:
        before, after = (grpo_loss(*x, mask, config) for x in (clean, spoilt))
        for a, b in zip(after, before, strict=True):
            np.testing.assert_array_equal(a, b)
        slope = gradient(*spoilt, mask, config)
        np.testing.assert_array_equal(slope, gradient(*clean, mask, config))
        assert jnp.isfinite(slope).all()
        assert not slope[~mask].any()


def test_a_sequence_without_own_tokens_costs_nothing():
    logprob, old, reference, advantage, mask = problem(12)
    inputs = (logprob, old, reference, advantage, jnp.zeros_like(mask), GRPOLossConfig())
    for term in grpo_loss(*inputs):
        assert term.tolist() == [0.0] * B
    assert not gradient(*inputs).any()


def test_a_long_sequence_weighs_what_a_short_one_does():
    for length in (1, 3, 5):
        own = [i < length for i in range(5)]
        terms, slope = by_ratio([1.0] * 5, 3.0, SKEWED, own)
        np.testing.assert_allclose(terms.loss, [-3.0], rtol=1e-6)
        np.testing.assert_allclose(slope.sum(), -3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"beta": -0.5}, r"beta is -0\.5; give 0"),
        ({"clip_low": 0.0}, r"clip_low is 0\.0 .* more than 0"),
        ({"clip_low": 1.25}, r"clip_low is 1\.25 .* clip_low at most 1"),
        ({"clip_low": -0.2}, r"clip_low is -0\.2 "),
        ({"clip_high": 0.0}, r"clip_high is 0\.0: .* more than 0"),
        ({"clip_high": -0.2}, r"clip_high is -0\.2: "),
    ],
)
def test_a_number_outside_its_range_is_refused_by_name(bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        GRPOLossConfig(**bad)
