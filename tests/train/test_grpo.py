"""Rule-based RL: rollouts and their log-probabilities, the update, the filter, the order."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.reward import rule_reward
from grm_jax.mesh import MeshConfig
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.presets import bundled
from grm_jax.sampling.request import Completion
from grm_jax.sampling.sampler import Sampler
from grm_jax.text.messages import Example
from grm_jax.text.parse import parse_choice
from grm_jax.train import grpo
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import CheckpointConfig, OptimizerConfig, RunConfig
from grm_jax.train.easy_items import hard_items
from grm_jax.train.grpo import Policy, Rollouts
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.rollout import (
    RolloutBatch,
    as_pair,
    fitting,
    judgeable,
    make_task,
    roll_out,
    to_arrays,
)
from grm_jax.train.stages.grpo import FilterConfig, GRPOConfig
from grm_jax.train.state import placed_state, state_shardings
from grm_jax.train.step import batch_sharding, compile_step, make_step
from grm_jax.train.tracking import read_metrics
from tests.devices import one_device
from tests.train.pairs import Pair, change, opened

GROUP = 4
# Adam's first step is the sign of a gradient, whose noise it makes as large as the rest; with a
# large eps it is the gradient, so that equal gradients can be told from equal signs.
SMOOTH = OptimizerConfig(0.1, schedule="constant", eps=1.0)
TRL_NAMES = {
    "reward", "reward_std", "frac_reward_zero_std", "kl", "entropy", "clip_ratio/low_mean",
    "clip_ratio/high_mean", "completions/mean_length", "completions/min_length",
    "completions/max_length", "completions/clipped_ratio", "num_tokens",
}  # fmt: skip


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    stage = GRPOConfig(
        items=(ItemsConfig(limit=24),),
        filter=FilterConfig(n=0),
        group=GROUP,
        per_step=16,
        steps=3,
        slots=16,
        optimizer=OptimizerConfig(3e-4, schedule="constant"),
        samples_every=2,
        compute=ComputeConfig(mesh=MeshConfig(1, 1, 1)),
        checkpoint=CheckpointConfig(every=2),
    )
    return Pair(RunConfig(str(tmp_path_factory.mktemp("grpo"))), stage)


@pytest.fixture(scope="module")
def make_policy(cfg):
    def make(**changes):
        other = change(cfg, **changes)
        run = opened(other)
        with jax.set_mesh(run.mesh):
            return Policy(run, other.cfg)

    return make


@pytest.fixture(scope="module")
def policy(make_policy):
    return make_policy()


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
def smooth_step(make_policy, tasks):
    return one_step(make_policy(optimizer=SMOOTH), tasks)


def test_the_trainers_logprobs_are_the_samplers(policy, params, rollouts, batch):
    """In f32, token by token; the sequences are longer than the sliding window."""
    found = np.asarray(policy.score(params, jax.device_put(batch)))
    assert (batch.positions.max(axis=-1) > policy.model.config.sliding_window).any()
    assert batch.mask.sum() == sum(len(r.tokens) for r in rollouts)
    np.testing.assert_allclose(
        found[batch.mask], batch.sampled_logprob[batch.mask], rtol=0, atol=1e-4
    )


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


def test_better_judgments_of_a_group_become_likelier(make_policy, tasks, batch):
    policy = make_policy(loss=GRPOLossConfig(beta=0.0))
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


def test_equal_rewards_change_nothing(make_policy, tasks, batch):
    policy = make_policy(loss=GRPOLossConfig(beta=0.0))
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


def test_microbatches_remat_and_chunks_change_nothing(make_policy, smooth_step, tasks):
    compute = ComputeConfig(MeshConfig(1, 1, 1), microbatches=4, remat="full", logits_chunk=20)
    same(one_step(make_policy(compute=compute, optimizer=SMOOTH), tasks), smooth_step)


def test_a_mesh_changes_nothing(make_policy, smooth_step, tasks):
    mesh = MeshConfig(2, 2, 2)
    other = make_policy(compute=ComputeConfig(mesh), optimizer=SMOOTH)
    same(one_step(other, tasks), smooth_step)


def test_a_second_update_on_a_rollout_is_clipped_against_the_first(make_policy, first_step, tasks):
    fast = OptimizerConfig(3e-3, schedule="constant")
    _, numbers = one_step(make_policy(iterations=2, optimizer=fast), tasks)
    assert numbers["sampling/logprob_drift"] < 1e-4  # of the first update
    assert numbers["clip_ratio/low_mean"] + numbers["clip_ratio/high_mean"] > 0
    _, single = first_step
    assert single["clip_ratio/low_mean"] == single["clip_ratio/high_mean"] == 0


def test_with_overlap_the_old_policy_is_the_one_that_drew_the_samples(make_policy, tasks):
    policy = make_policy(overlap=True, optimizer=OptimizerConfig(3e-3, schedule="constant"))
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


def test_every_item_comes_once_per_pass_and_each_pass_has_an_order_of_its_own(cfg, policy):
    items = load_items(cfg.cfg.items, 0)
    rollouts = Rollouts(policy, items)
    found = [task for step in range(12) for task in rollouts.tasks(step)]
    assert len(found) == 48
    first, second = found[:24], found[24:]
    names = [[t.example.id for t in part] for part in (first, second)]
    assert sorted(names[0]) == sorted(names[1]) == sorted(i.id for i in items)
    assert names[0] != names[1]
    shown = [{t.example.id: t.example.responses for t in part} for part in (first, second)]
    assert shown[0] != shown[1]
    assert Rollouts(policy, items).tasks(11) == found[44:]


def test_a_run_logs_trls_names_and_keeps_judgments_to_be_read(cfg):
    with one_device():
        folder = grpo.run(*cfg)
    output = Path(cfg.output)
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(set(row) >= TRL_NAMES for row in rows)
    assert max(row["sampling/logprob_drift"] for row in rows) < 1e-4
    assert [row["train/skipped"] for row in rows] == [0, 0, 0]
    assert np.diff([0, *(row["num_tokens"] for row in rows)]).tolist() == [
        row["data/tokens"] for row in rows
    ]
    kept = [json.loads(line) for line in (output / "rollouts.jsonl").read_text().splitlines()]
    assert {row["step"] for row in kept} == {1, 3}
    assert all(row["text"] and row["reward"] in (1.0, -1.0) for row in kept)
    assert folder == output / "model"


def test_with_overlap_a_killed_and_a_stopped_run_end_with_the_same_bits(cfg, tmp_path, monkeypatch):
    """The stopped one has a checkpoint between two that are due."""
    small = change(
        cfg,
        start="new:tiny-quarter",
        tokenizer=str(bundled("tiny")),
        templates=str(bundled("tiny") / "templates"),
        overlap=True,
        per_step=8,
        steps=4,
        max_new_tokens=8,
        loss=GRPOLossConfig(beta=0.0),
    )
    by_text = lambda example, judgments: [len(set(j.text)) % 2.0 for j in judgments]  # noqa: E731

    def trained(name):
        with one_device():
            return grpo.run(*change(small, output=str(tmp_path / name)), by_text)

    def stopped(self, params, step):
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, params, step)

    whole = trained("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for made in ("model", "checkpoints/4"):  # what is not there yet after a kill in step 4
        shutil.rmtree(tmp_path / "parts" / made)
    draw = Rollouts.draw
    with monkeypatch.context() as patch:
        patch.setattr(Rollouts, "draw", stopped)
        assert trained("parts") is None
    assert sorted(p.name for p in (tmp_path / "parts" / "checkpoints").iterdir()) == ["2", "3"]
    parts = trained("parts")
    weights = "model.safetensors"
    assert (parts / weights).read_bytes() == (whole / weights).read_bytes()
    rows, expected = (
        [
            {name: x for name, x in row.items() if not name.startswith(("time/", "tokens_per"))}
            for row in read_metrics(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("parts", "whole")
    )
    assert rows == expected
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert min(row["train/grad_norm"] for row in rows) > 0


def test_items_that_the_reference_judge_always_gets_right_are_left_out(cfg, tmp_path):
    items = load_items(cfg.cfg.items, 0)[:8]
    saved = tmp_path / "saved.jsonl"
    with saved.open("w") as file:
        for number, item in enumerate(items):
            scores = [[9 if i == item.label else 1 for i in range(item.n)]] * 3
            if item.n == 1:
                scores = [[item.label]] * 3
            if number % 2:
                scores = [*scores[:2], None]
            judgments = [
                {"sample": i, "order": list(range(item.n)), "principles": "", "critique": "",
                 "scores": s, "reason": None, "text": "", "tokens": 0, "logprob": 0.0}
                for i, s in enumerate(scores)
            ]  # fmt: skip
            row = {"id": item.id, "prompt": item.prompt[-1].content, "label": item.label}
            row |= {"responses": list(item.responses), "reference": item.reference}
            row |= {"judgments": judgments}
            file.write(json.dumps(row) + "\n")
    run = opened(change(cfg, output=str(tmp_path / "run")))
    config = FilterConfig(JudgeConfig(samples=str(saved)), 3)
    left = hard_items(run, config, items, "grm", 4)
    assert [item.id for item in left] == [item.id for item in items[1::2]]
    with pytest.raises(ValueError, match="leaves 4 of 8 items, fewer than the 8 prompts"):
        hard_items(run, config, items, "grm", 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 0}, "group is 0"),
        ({"reward": "none"}, "reward is 'none'; give one of rule"),
        ({"per_step": 6}, "per_step is 6 outputs in groups of 4"),
        ({"steps": 0}, "steps is 0"),
        ({"filter": None}, None),
    ],
)
def test_values_out_of_range_are_refused(cfg, changes, message):
    if message is None:
        with pytest.raises(ValueError, match="temperature is 0"):
            change(cfg, strategy=replace(cfg.cfg.strategy, temperature=0.0))
        with pytest.raises(ValueError, match=r"filter\.n is -1"):
            FilterConfig(n=-1)
        return
    with pytest.raises(ValueError, match=message):
        change(cfg, **changes)


def test_micro_batches_cut_between_prompts(cfg, tmp_path):
    compute = ComputeConfig(MeshConfig(1, 1, 1), microbatches=3)
    with one_device(), pytest.raises(ValueError, match=r"prompts is 4, .* a multiple of 3"):
        grpo.run(*change(cfg, compute=compute, output=str(tmp_path)))


def test_a_batch_counts_outputs_or_prompts(cfg):
    assert replace(cfg.cfg, per_step=16).prompts == 4
    assert replace(cfg.cfg, per_step=16, per_step_unit="prompts").prompts == 16


def test_tasks_show_the_label_where_the_responses_went(cfg, policy):
    for item in load_items(cfg.cfg.items, 0):
        task = make_task(item, policy.templates, policy.run.tokenizer, 7)
        if item.n > 1:
            shown = task.example.responses[task.example.label]
            assert shown == item.responses[item.label]


def test_items_without_room_are_counted_and_left_out(capsys):
    items = [Example("q" * n, ["a", "b"], label=0, id=f"i{n}") for n in (3, 9, 5, 8, 7, 6)]
    prompt = lambda item: item.prompt[-1].content  # noqa: E731
    assert fitting(items, 9, 4, prompt) == items
    assert capsys.readouterr().err == ""
    assert [item.id for item in fitting(items, 5, 4, prompt)] == ["i3", "i5"]
    told = capsys.readouterr().err
    assert "4 of 6 items have prompts of more than 5 tokens" in told
    assert "i9 (9 tokens), i8 (8 tokens), i7 (7 tokens), .." in told
    with pytest.raises(ValueError, match=r"6 of 6 items .* lower max_new_tokens"):
        fitting(items, 2, 4, prompt)


def test_no_step_is_given_a_prompt_without_room(cfg, policy, monkeypatch):
    """Also where another order of an item's responses takes more tokens than the first did."""
    items = load_items(cfg.cfg.items, 0)
    lengths = sorted(len(policy.task(item).prompt) for item in items)
    monkeypatch.setattr(policy, "longest", lengths[15])
    left = policy.fitting(items)
    assert 16 <= len(left) < len(items)
    rollouts = Rollouts(policy, left)
    found = [task for step in range(30) for task in rollouts.tasks(step)]
    assert {t.example.id for t in found} == {item.id for item in left}
    assert max(len(t.prompt) for t in found) <= lengths[15]


def test_a_judge_sees_the_best_and_another_response_each_time_another():
    some = load_items((ItemsConfig(start=40, limit=24),), 0)
    items = judgeable(some, "judge")
    assert items == [item for item in some if item.n > 1]
    assert len(items) < len(some) == len(judgeable(some, "grm"))
    losers = set()
    for item in items:
        for seed in range(20):
            pair = as_pair(item, seed)
            assert pair.n == 2
            assert pair.responses[pair.label] == item.responses[item.label]
            assert set(pair.responses) <= set(item.responses)
            assert pair == as_pair(item, seed)
            losers.add((item.id, pair.responses[1 - pair.label]))
    assert len(losers) == sum(item.n - 1 for item in items)
    with pytest.raises(ValueError, match="all of 1 items have one response"):
        judgeable([Example("q", ["4"], label=1)], "judge")


def test_a_judge_is_rewarded_for_choosing_the_labelled_response(policy):
    example = Example("What is 2+2?", ["4", "5"], label=0)
    task = make_task(example, policy.templates, policy.run.tokenizer, 3, "judge")
    assert policy.run.tokenizer.decode(task.prompt).count("Which is best?") == 1
    right = task.example.label + 1

    def says(requests):
        for request in requests:
            for sample, said in enumerate((f"\\boxed{{{right}}}", f"\\boxed{{{3 - right}}}", "4")):
                tokens = np.array(policy.run.tokenizer.encode_completion(said))
                yield Completion(request, sample, tokens, np.zeros(len(tokens)), True)

    found = roll_out([task], says, policy.run.tokenizer, 3)
    assert [r.reward for r in found] == [1.0, -1.0, -1.0]
    # Another reward sees a whole group at once.
    ranks = lambda example, judgments: range(len(judgments))  # noqa: E731
    assert [r.reward for r in roll_out([task], says, policy.run.tokenizer, 3, ranks)] == [0, 1, 2]
    assert sorted(found[0].judgment.scores) == [0, 1]


def test_a_judge_is_trained_on_pairs_alone_and_says_what_it_is(cfg, tmp_path):
    other = change(cfg, kind="judge", steps=1, samples_every=1, output=str(tmp_path))
    with one_device():
        folder = grpo.run(*other)
    kept = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert len(kept) == 16
    for row in kept:
        assert len(row["responses"]) == 2
        choice = parse_choice(row["text"], 2).index
        assert row["reward"] == (1.0 if choice == row["label"] else -1.0)
    assert json.loads((folder / "grm.json").read_text())["kind"] == "judge"
