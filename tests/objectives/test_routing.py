"""Losses of routers against their definitions, and what is reported of experts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grm_jax.data.pipeline import Batch
from grm_jax.models.experts import choose, routing
from grm_jax.models.spec import Experts, Gate
from grm_jax.objectives.config import GRPOLossConfig, RouterLossConfig
from grm_jax.objectives.routing import check_router_loss
from grm_jax.sharding import TRAIN_RULES, shardings_of
from grm_jax.train.policy_loss import policy_loss
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.sft import sft_loss
from grm_jax.train.state import new_state
from grm_jax.train.step import make_step
from tests.test_sharding import LATENT, MODEL, assert_close, mesh_of, random_params, tokens_of

WEIGHTS = RouterLossConfig(balance=0.5, z=0.25)
ROWS, LENGTH = 4, 12


@pytest.fixture(scope="module")
def params():
    return random_params(LATENT)


@pytest.fixture(scope="module")
def batch():
    """Rows with padding, and with different numbers of targets."""
    ids = tokens_of(ROWS, LENGTH + 1)
    index = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    real = index < np.array([[12], [5], [9], [12]])
    mask = real & (index >= np.array([[2], [1], [8], [5]]))
    positions = np.where(real, index, -1).astype(np.int32)
    segments, none = real.astype(np.int32), np.zeros(ROWS, np.int32)
    return Batch(*map(jnp.asarray, (ids[:, :-1], ids[:, 1:], mask, positions, segments, none)))


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_the_sums_of_a_gate_are_those_of_their_definitions(score):
    spec = Experts(8, 3, 4, 4, "silu", Gate(score, groups=4, top_groups=2))
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 2, (3, 7, 8)), jnp.float32)
    lengths = [7, 4, 0]
    real = np.arange(7) < np.array(lengths)[:, None]
    routed = choose(spec.gate, 3, logits, None)
    found = routing(spec, logits, routed, jnp.asarray(real))
    for row, length in enumerate(lengths):
        raw, went = np.asarray(logits, np.float64)[row, :length], routed.expert[row, :length]
        load = np.bincount(np.ravel(went), minlength=8)
        np.testing.assert_array_equal(found.load[row], load)
        if not length:
            assert found.balance[row] == found.z[row] == 0
            continue
        scores = np.exp(raw) if score == "softmax" else 1 / (1 + np.exp(-raw))
        share = (scores / scores.sum(1, keepdims=True)).mean(0)
        np.testing.assert_allclose(
            found.balance[row], 8 / 3 * (load / length * share).sum(), rtol=1e-5
        )
        z = np.log(np.exp(raw).sum(1)) ** 2
        np.testing.assert_allclose(found.z[row], z.mean(), rtol=1e-5)


def test_even_use_costs_one_and_the_use_of_one_expert_as_much_as_there_are():
    spec = Experts(4, 1, 4, 4, "silu", Gate("softmax"))
    for choice, cost in (([0, 1, 2, 3], 1.0), ([2, 2, 2, 2], 4.0)):
        logits = 20.0 * jnp.eye(4)[jnp.array(choice)]
        routed = choose(spec.gate, 1, logits[None], None)
        found = routing(spec, logits[None], routed, jnp.ones((1, 4), bool))
        np.testing.assert_allclose(found.balance, [cost], rtol=1e-5)


def updated(params, batch, router, microbatches=1):
    """The weights after a step of SGD, and its metrics."""
    loss = sft_loss(LATENT, chunk=64, router=router)
    rate = optax.constant_schedule(1.0)
    step = jax.jit(make_step(loss, optax.sgd(1.0), rate, microbatches=microbatches))
    state, metrics = step(new_state(params, optax.sgd(1.0)), batch)
    return state.params, metrics


@pytest.fixture(scope="module")
def weighed(params, batch):
    return updated(params, batch, WEIGHTS)


@pytest.mark.slow
def test_without_weights_a_step_has_the_same_bits_and_reports_the_loads(params, batch, weighed):
    plain, before = updated(params, batch, None)
    watched, metrics = updated(params, batch, RouterLossConfig())
    jax.tree.map(np.testing.assert_array_equal, watched, plain)
    assert before == {name: value for name, value in metrics.items() if name in before}
    new = metrics.keys() - before.keys()
    layers = {f"experts/max_load/{number}" for number in (1, 2)}  # layer 0 has no experts
    losses = {"experts/balance_loss", "experts/z_loss"}
    assert new == layers | losses | {"experts/max_load", "experts/idle"}
    assert metrics["experts/max_load"] == max(float(metrics[name]) for name in layers)
    assert 1 < metrics["experts/max_load"] <= 8 / 3
    assert 0 <= metrics["experts/idle"] < 1
    # And the losses that are reported are those of weights, before them.
    for name in new:
        np.testing.assert_allclose(metrics[name], weighed[1][name], rtol=1e-6)


@pytest.mark.slow
def test_router_losses_are_added_and_have_their_gradient(params, batch, weighed):
    """Of each layer and row, a row as often as it has targets."""

    def by_hand(params):
        seen = []
        hidden = LATENT.hidden(
            params, batch.tokens, batch.positions, batch.segments, watch=seen.append
        )
        logprobs = jax.nn.log_softmax(LATENT.logits(params, hidden))
        nll = -jnp.take_along_axis(logprobs, batch.targets[..., None], -1)[..., 0]
        per_row = jnp.where(batch.mask, nll, 0).sum(1)
        (numbers, of_all), targets = seen[0], batch.mask.sum(1)
        assert (len(seen), numbers) == (1, (1, 2))
        router = 0.5 * of_all.balance.sum(0) + 0.25 * of_all.z.sum(0)
        return (per_row + targets * router).sum() / targets.sum()

    value, slope = jax.jit(jax.value_and_grad(by_hand))(params)
    new, metrics = weighed
    np.testing.assert_allclose(metrics["train/loss"], value, rtol=1e-5)
    assert_close(jax.tree.map(jnp.subtract, params, new), slope)
    assert np.abs(slope["expert_layers"]["mixed"]["router"]).max() > 1e-3


@pytest.mark.slow
def test_micro_batches_and_a_mesh_give_the_same(params, batch, weighed):
    assert_close(updated(params, batch, WEIGHTS, microbatches=2), weighed)
    mesh = mesh_of((2, 2, 2))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings_of(LATENT.axes(), mesh, TRAIN_RULES))
        assert_close(updated(placed, batch, WEIGHTS), weighed)


@pytest.mark.slow
def test_grpo_counts_a_prompt_with_its_group(params):
    """Padding and loads: every token of a prompt once, and of its completions."""
    rng = np.random.default_rng(0)
    index = np.arange(5, dtype=np.int32)
    at = np.where(index >= 2, index - 2, -1) * np.ones((2, 1), np.int32)
    positions = np.broadcast_to(3 + np.arange(4, dtype=np.int32), (2, 3, 4))
    floats = [jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(3)]
    advantage = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
    given = (tokens_of(2, 5), at, tokens_of(2, 3, 4), positions)
    batch = RolloutBatch(*map(jnp.asarray, given), advantage, *floats)
    loss = partial(policy_loss, LATENT, GRPOLossConfig(), on_policy=True, chunk=64)
    plain, watched = (jax.jit(loss(router=router)) for router in (RouterLossConfig(), WEIGHTS))
    (value, count, sums), (more, *_) = plain(params, batch), watched(params, batch)
    (load,) = sums["experts"].loads.values()
    assert load.sum(1).tolist() == [3 * 2 * (3 + 3 * 4)] * 2
    added = 0.5 * sums["experts"].balance + 0.25 * sums["experts"].z  # means over two layers
    assert count == 6
    np.testing.assert_allclose(more - value, 2 * added, rtol=1e-4)


def test_router_losses_of_a_model_without_experts_are_refused():
    check_router_loss(MODEL.spec, RouterLossConfig())
    check_router_loss(LATENT.spec, WEIGHTS)
    with pytest.raises(ValueError, match=r"router_loss\.balance is 0\.5 .* has no experts"):
        check_router_loss(MODEL.spec, WEIGHTS)
    with pytest.raises(ValueError, match=r"router_loss\.z is -1"):
        RouterLossConfig(z=-1)
