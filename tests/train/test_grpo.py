"""Rule-based RL: rollouts, their log-probabilities, and the update."""

import jax
import numpy as np
import pytest

from grm_jax.data.items import load_items
from grm_jax.judging.reward import rule_reward
from grm_jax.mesh import MeshConfig
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.sampling.sampler import Sampler
from grm_jax.train import grpo
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.grpo import Rollouts
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.rollout import RolloutBatch, to_arrays
from grm_jax.train.state import placed_state, state_shardings
from grm_jax.train.step import batch_sharding, compile_step, make_step
from tests.train.policies import GROUP, make_policy, small_grpo

# Adam's first step is the sign of a gradient, whose noise it makes as large as the rest; with a
# large eps it is the gradient, so that equal gradients can be told from equal signs.
SMOOTH = OptimizerConfig(0.1, schedule="constant", eps=1.0)


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return small_grpo(tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def policy_with(cfg):
    return lambda **changes: make_policy(cfg, **changes)


@pytest.fixture(scope="module")
def policy(policy_with):
    return policy_with()


@pytest.fixture(scope="module")
def tasks(cfg, policy):
    return Rollouts(policy, load_items(cfg.cfg.items, 0)).tasks(0)


def trainer_of(policy):
    """begin(params) -> state, update(state, batch) -> (state, metrics)."""
    cfg, model, mesh = policy.cfg, policy.model, policy.run.mesh
    schedule = make_schedule(cfg.optimizer, cfg.steps * cfg.iterations)
    optimizer = make_optimizer(cfg.optimizer, schedule, model.axes())
    shardings = state_shardings(model, optimizer, mesh)
    step = make_step(policy.loss(), optimizer, schedule, microbatches=cfg.compute.microbatches)
    begin = lambda params: placed_state(params, optimizer, shardings)  # noqa: E731
    return begin, compile_step(step, shardings, mesh)


@pytest.fixture(scope="module")
def params(policy):
    return policy.load()


@pytest.fixture(scope="module")
def rollouts(policy, params, tasks):
    return policy.roll_out(params, tasks, 0)


@pytest.fixture(scope="module")
def batch(policy, rollouts):
    advantage = np.array([r.reward for r in rollouts], np.float32).reshape(-1, GROUP)
    return to_arrays(rollouts, advantage, policy.model.config.max_position)


def steps(policy, tasks, count):
    """The weights and the numbers after each of some steps from the start, on the same items."""
    with jax.set_mesh(policy.run.mesh):
        (begin, update), rollouts = trainer_of(policy), Rollouts(policy, [tasks[0].example])
        rollouts.tasks = lambda step: tasks
        state = begin(policy.load())
        for step in range(count):
            drawn, updates = rollouts.draw(state.params, step), []
            for _ in range(policy.cfg.iterations):
                state, metrics = update(state, drawn.batch)
                updates.append({name: float(x) for name, x in metrics.items()})
            numbers, _ = drawn.report(updates, {})
            yield jax.device_get(state.params), numbers


def one_step(policy, tasks):
    (after,) = steps(policy, tasks, 1)
    return after


@pytest.fixture(scope="module")
def first_step(policy, tasks):
    return one_step(policy, tasks)


@pytest.fixture(scope="module")
def smooth_step(policy_with, tasks):
    return one_step(policy_with(optimizer=SMOOTH), tasks)


def test_the_trainers_logprobs_are_the_samplers(policy, params, rollouts, batch):
    """In f32, token by token; the sequences are longer than the sliding window."""
    found = np.asarray(policy.score(params, jax.device_put(batch)))
    assert (batch.positions.max(axis=-1) > policy.model.config.sliding_window).any()
    assert batch.mask.sum() == sum(len(r.tokens) for r in rollouts)
    np.testing.assert_allclose(
        found[batch.mask], batch.sampled_logprob[batch.mask], rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_the_drift_metric_sees_other_weights(policy, first_step, batch):
    _, numbers = first_step
    assert 0 < numbers["sampling/logprob_drift"] < 1e-4
    begin, update = trainer_of(policy)
    other = begin(jax.tree.map(lambda p: p * 1.01, policy.load()))
    placed = RolloutBatch(*(jax.device_put(x, batch_sharding(policy.run.mesh)) for x in batch))
    _, metrics = update(other, placed)
    assert float(metrics["sampling/logprob_drift"]) / batch.advantage.size > 1e-3


def test_a_group_is_one_request_and_its_judgments_differ(policy, params, tasks, monkeypatch):
    asked = []

    class Watched(Sampler):
        def __call__(self, requests):
            asked.extend(requests)
            return super().__call__(asked)

    monkeypatch.setattr(grpo, "Sampler", Watched)
    found = policy.roll_out(params, tasks, 0)
    assert [request.samples for request in asked] == [tuple(range(GROUP))] * len(tasks)
    assert [r.task for r in found] == [task for task in tasks for _ in range(GROUP)]
    texts = [{r.judgment.text for r in found[i : i + GROUP]} for i in range(0, 16, GROUP)]
    assert any(len(group) > 1 for group in texts)
    for rollout in found:
        example = rollout.task.example
        assert rollout.reward == rule_reward(rollout.judgment.scores, example.label)


def test_arrays_hold_prompt_and_completion_and_mark_what_was_written(policy, rollouts, batch):
    for number, rollout in enumerate(rollouts):
        place, length = divmod(number, GROUP), len(rollout.task.prompt)
        row = place[0]
        padding = batch.prompts.shape[1] - length
        assert tuple(batch.prompts[row, padding:]) == rollout.task.prompt
        assert batch.prompt_positions[row].tolist() == [-1] * padding + list(range(length))
        np.testing.assert_array_equal(batch.tokens[place][batch.mask[place]], rollout.tokens)
        written = len(rollout.tokens)
        assert batch.positions[place][:written].tolist() == list(range(length, length + written))
        assert (batch.positions[place][written:] == -1).all()
    assert rollouts[0].tokens[-1] in policy.run.tokenizer.stop_ids


@pytest.mark.slow
def test_better_judgments_of_a_group_become_likelier(policy_with, tasks, batch):
    policy = policy_with(loss=GRPOLossConfig(beta=0.0))
    advantage = batch.advantage - batch.advantage.mean()
    assert advantage.std() > 0
    placed = RolloutBatch(
        *(
            jax.device_put(x, batch_sharding(policy.run.mesh))
            for x in batch._replace(advantage=advantage)
        )
    )
    begin, update = trainer_of(policy)
    state = begin(policy.load())
    before = np.asarray(policy.score(state.params, placed))
    state, _ = update(state, placed)
    after = np.asarray(policy.score(state.params, placed))
    own = np.maximum(batch.mask.sum(axis=-1), 1)
    change = np.where(batch.mask, after - before, 0).sum(axis=-1) / own
    assert (change * advantage).sum() > 0


@pytest.mark.slow
def test_equal_rewards_change_nothing(policy_with, tasks, batch):
    policy = policy_with(loss=GRPOLossConfig(beta=0.0))
    placed = RolloutBatch(
        *(
            jax.device_put(x, batch_sharding(policy.run.mesh))
            for x in batch._replace(advantage=np.zeros_like(batch.advantage))
        )
    )
    before = jax.device_get(policy.load())
    begin, update = trainer_of(policy)
    state, metrics = update(begin(policy.load()), placed)
    assert float(metrics["train/grad_norm"]) == 0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), before)


@pytest.mark.slow
def test_the_reference_costs_nothing_at_first_and_more_later(policy, tasks):
    (_, first), _, (_, later) = steps(policy, tasks, 3)
    assert first["kl"] == pytest.approx(0, abs=1e-9)
    assert later["kl"] > 1e-6


def same(found, wanted):
    (params, numbers), (expected, other) = found, wanted
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), params, expected
    )
    for name in ("reward", "train/loss", "kl", "entropy", "train/grad_norm"):
        assert numbers[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_microbatches_remat_and_chunks_change_nothing(policy_with, smooth_step, tasks):
    compute = ComputeConfig(MeshConfig(1, 1, 1), microbatches=4, remat="full", logits_chunk=20)
    same(one_step(policy_with(compute=compute, optimizer=SMOOTH), tasks), smooth_step)


@pytest.mark.slow
def test_a_mesh_changes_nothing(policy_with, smooth_step, tasks):
    mesh = MeshConfig(2, 2, 2)
    other = policy_with(compute=ComputeConfig(mesh), optimizer=SMOOTH)
    same(one_step(other, tasks), smooth_step)


@pytest.mark.slow
def test_a_second_update_on_a_rollout_is_clipped_against_the_first(policy_with, first_step, tasks):
    fast = OptimizerConfig(3e-3, schedule="constant")
    _, numbers = one_step(policy_with(iterations=2, optimizer=fast), tasks)
    assert numbers["sampling/logprob_drift"] < 1e-4  # of the first update
    assert numbers["clip_ratio/low_mean"] + numbers["clip_ratio/high_mean"] > 0
    _, single = first_step
    assert single["clip_ratio/low_mean"] == single["clip_ratio/high_mean"] == 0


@pytest.mark.slow
def test_with_overlap_the_old_policy_is_the_one_that_drew_the_samples(policy_with, tasks):
    policy = policy_with(overlap=True, optimizer=OptimizerConfig(3e-3, schedule="constant"))
    with jax.set_mesh(policy.run.mesh):
        (begin, update), rollouts = trainer_of(policy), Rollouts(policy, [tasks[0].example])
        rollouts.tasks = lambda step: tasks
        drawn = rollouts.draw(policy.load(), 0)
        batch, mask = drawn.batch, drawn.host.mask
        np.testing.assert_allclose(
            np.asarray(batch.old_logprob)[mask], drawn.host.sampled_logprob[mask], rtol=0, atol=1e-4
        )
        state, first = update(begin(policy.load()), batch)
        _, second = update(state, batch)
    clipped = [float(m["clip_ratio/low_mean"] + m["clip_ratio/high_mean"]) for m in (first, second)]
    assert clipped[0] == 0 < clipped[1]  # by the weights that drew, and by those a step later
