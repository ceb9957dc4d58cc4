"""What GRPO judges: which items, in which order, and what a judge is shown and rewarded for."""

import json

import numpy as np
import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.judging.config import JudgeConfig
from grm_jax.sampling.request import Completion
from grm_jax.text.messages import Example
from grm_jax.train.easy_items import hard_items
from grm_jax.train.grpo import Rollouts
from grm_jax.train.rollout import as_pair, fitting, judgeable, make_task, roll_out
from grm_jax.train.stages.grpo import FilterConfig
from tests.train.pairs import change, opened
from tests.train.policies import make_policy, small_grpo


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return small_grpo(tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def policy(cfg):
    return make_policy(cfg)


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
