"""What each trainer calls, as it calls it, and what it is given back."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from typing import Any

import numpy as np
import pytest

from grm_jax.rewards import JudgeReward

SUM = "What is 1+1?"
GROUPED = (["a"] * 4 + ["b"] * 4, ["it is 3", "9", "5", "5", "1", "2", "3", "4"])
METRICS = ("score", "invalid", "margin", "tokens")


def called_by_trl(function: Any, prompts: Any, completions: Any, **columns: Any) -> Any:
    """As `GRPOTrainer._calculate_rewards` does: rewards, metrics, columns of its table."""
    metrics: dict[str, list[float]] = {}
    table: dict[str, list[Any]] = {}
    given = {
        "completion_ids": [[1]] * len(prompts),
        "trainer_state": object(),
        "log_metric": lambda name, value: metrics.setdefault(name, []).append(value),
        "log_extra": lambda name, values: table.setdefault(name, []).extend(values),
    }
    rewards = function(prompts=prompts, completions=completions, **columns, **given)
    if inspect.iscoroutinefunction(function):
        rewards = asyncio.run(rewards)
    return rewards, metrics, table


@pytest.mark.parametrize("way", ["trl", "trl_async"])
@pytest.mark.parametrize("form", ["text", "messages"])
def test_trl(judge, way: str, form: str) -> None:
    prompts, completions = GROUPED
    if form == "messages":
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
        completions = [[{"role": "assistant", "content": text}] for text in completions]
    function = getattr(JudgeReward(judge, k=4, name="kindness"), way)
    assert function.__name__ == "kindness"
    assert inspect.iscoroutinefunction(function) == (way == "trl_async")
    rewards, metrics, table = called_by_trl(function, prompts, completions, task=["x"] * 8)
    assert rewards == [3.0, 9.0, 5.0, 5.0, 1.0, 2.0, 3.0, 4.0]
    assert {example.n for example in judge.asked} == {4}, "a group is judged together"
    assert metrics == {
        "kindness/score": [4.0],
        "kindness/invalid": [0.25],
        "kindness/margin": [2.5],
        "kindness/tokens": [40.0],
        "kindness/failed": [0.0],
    }
    assert table == {"kindness/score": rewards}


def test_trl_has_none_where_there_is_no_reward(judge, caplog) -> None:
    reward = JudgeReward(judge, k=1, group=2, applies=lambda row: row["task"] == "talk")
    prompts, completions = [SUM] * 6, ["3", "4", "unreadable", "9", "7", "8"]
    task = ["talk", "talk", "talk", "talk", "sum", "talk"]
    with caplog.at_level(logging.WARNING):
        rewards, metrics, table = called_by_trl(reward.trl, prompts, completions, task=task)
    # The five of the task are judged as (3), (4, unreadable) and (9, 8).
    assert rewards == [3.0, None, None, 9.0, None, 8.0]
    assert metrics["grm/failed"] == [pytest.approx(2 / 5)]
    assert metrics["grm/score"] == [pytest.approx(20 / 3)]
    assert table["grm/score"] == rewards
    assert "could not be judged and have no reward" in caplog.text
    assert "none of its samples had readable scores" in caplog.text


def test_trl_hears_nothing_where_there_is_nothing_to_judge(judge) -> None:
    reward = JudgeReward(judge, applies=lambda row: False)
    assert called_by_trl(reward.trl, ["q"], ["1"]) == ([None], {}, {"grm/score": [None]})
    assert judge.asked == []


def test_a_prompt_that_is_no_text_has_no_reward_and_harms_no_other(judge) -> None:
    image = [{"role": "user", "content": [{"type": "image"}]}]
    rewards, metrics, _ = called_by_trl(JudgeReward(judge).trl, [SUM, image], ["5", "6"])
    assert rewards == [5.0, None]
    assert metrics["grm/failed"] == [0.5]


def test_tunix(judge) -> None:
    reward = JudgeReward(judge, k=4)
    prompts, completions = GROUPED
    rendered = [f"<start_of_turn>user\n{p}<end_of_turn>\n<start_of_turn>model\n" for p in prompts]
    function = reward.tunix
    assert function.__name__ == "grm"
    assert not inspect.iscoroutinefunction(function)
    # Its manager reads the signature for fields of the algorithm's configuration: there are none.
    assert list(inspect.signature(function).parameters) == ["prompts", "completions", "columns"]
    answered = [f"{text}<end_of_turn>" for text in completions]
    rewards = function(prompts=rendered, completions=answered, answer=np.arange(8), mode="train")
    assert rewards == [3.0, 9.0, 5.0, 5.0, 1.0, 2.0, 3.0, 4.0]
    assert all(type(reward) is float for reward in rewards)
    assert {example.prompt[0].content for example in judge.asked} == {"a", "b"}
    told = reward.tunix_metrics(prompts=rendered, completions=answered, rewards=rewards)
    assert {name: value for name, (value, _) in told.items()} == {
        "grm/score": 4.0,
        "grm/invalid": 0.25,
        "grm/margin": 2.5,
        "grm/tokens": 40.0,
        "grm/failed": 0.0,
    }
    assert all(reduce([1.0, 3.0]) == 2.0 for _, reduce in told.values())


def test_tunix_would_make_0_of_what_is_missing_so_that_it_is_an_error(judge) -> None:
    reward = JudgeReward(judge, applies=lambda row: row["task"] == "talk")
    with pytest.raises(ValueError, match="1 of 2 completions could not be judged"):
        reward.tunix(prompts=["a", "b"], completions=["1", "unreadable"], task=["talk", "talk"])
    rewards = reward.tunix(prompts=["a", "b"], completions=["1", "2"], task=["talk", "sum"])
    assert rewards[0] == 1.0
    assert math.isnan(rewards[1])


def called_by_verl(function: Any, answers: list[str], **extra: Any) -> list[Any]:
    """As its managers do: all samples of a batch at once, or all in a list."""
    each = [
        {
            "data_source": "sums",
            "solution_str": answer,
            "ground_truth": "2",
            "extra_info": {"question": SUM, "num_turns": None, **extra},
        }
        for answer in answers
    ]
    if not inspect.iscoroutinefunction(function):
        return [function(**one) for one in each]

    async def every() -> list[Any]:
        return await asyncio.gather(*(function(**one) for one in each))

    return asyncio.run(every())


@pytest.mark.parametrize("way", ["verl", "verl_async"])
def test_verl(judge, way: str) -> None:
    results = called_by_verl(getattr(JudgeReward(judge, k=2), way), ["3", "9", "3"])
    assert [result["score"] for result in results] == [3.0, 9.0, 3.0]
    # All samples of a batch must have the same keys, which become columns of numbers.
    assert {tuple(result) for result in results} == {
        ("score", *(f"grm_{name}" for name in METRICS))
    }
    assert results[0] == {
        "score": 3.0,
        "grm_score": 3.0,
        "grm_invalid": 0.5,
        "grm_margin": 0.0,
        "grm_tokens": 20.0,
    }
    assert {example.n for example in judge.asked} == {1}


def test_verl_batch(judge) -> None:
    function = JudgeReward(judge, k=2, scale="unit").verl_batch
    results = function(
        data_sources=np.array(["sums"] * 3),
        solution_strs=["1", "10", "4"],
        ground_truths=["2", None, "2"],
        extra_infos=np.array([{"question": SUM}] * 3),
    )
    assert [result["score"] for result in results] == pytest.approx([0, 1, 1 / 3])
    assert [result["grm_score"] for result in results] == [1.0, 10.0, 4.0]
    assert [example.n for example in judge.asked] == [3]


@pytest.mark.parametrize("way", ["verl", "verl_async"])
def test_verl_has_no_word_for_what_is_missing(judge, way: str) -> None:
    function = getattr(JudgeReward(judge, applies=lambda row: row["data_source"] == "talk"), way)
    with pytest.raises(ValueError, match="has no word for that"):
        called_by_verl(function, ["3"])
    function = getattr(JudgeReward(judge), way)
    with pytest.raises(ValueError, match="could not be judged"):
        called_by_verl(function, ["unreadable"])
    with pytest.raises(ValueError, match="extra_info has no 'question', but question, num_turns"):
        called_by_verl(function, ["3"], question=None)
    function = getattr(JudgeReward(judge, question="raw"), way)
    assert called_by_verl(function, ["3"], raw=[{"role": "user", "content": "hi"}])
    assert judge.asked[-1].prompt[0].content == "hi"


def test_openrlhf(judge) -> None:
    prompt = "<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n"
    function = JudgeReward(judge, k=2).openrlhf
    queries = [f"{prompt}3<|im_end|>", f"{prompt}9<|im_end|>"]
    assert function(queries, [prompt] * 2, ["x", "y"]) == {
        "rewards": [3.0, 9.0],
        "scores": [3.0, 9.0],
        "extra_logs": {
            "grm_score": [3.0, 9.0],
            "grm_invalid": [0.5, 0.5],
            "grm_margin": [6.0, 6.0],
            "grm_tokens": [20.0, 20.0],
        },
    }
    (example,) = judge.asked
    assert (example.prompt[0].content, example.responses) == (SUM, ("3", "9"))
    with pytest.raises(ValueError, match="could not be judged"):
        function([f"{prompt}unreadable"], [prompt], [""])


def test_areal(judge) -> None:
    reward = JudgeReward(judge, k=2)
    prompt = "<start_of_turn>user\nWhat is 1+1?<end_of_turn>\n<start_of_turn>model\n"
    assert reward.areal(prompt, "3<end_of_turn>", [1], [2], level="easy") == 3.0
    talk = [{"role": "user", "content": "hi"}]
    assert reward.areal("whatever", "4", [1], [2], messages=talk) == 4.0
    assert [example.prompt[0].content for example in judge.asked] == [SUM, "hi"]
    with pytest.raises(ValueError, match="could not be judged"):
        reward.areal(prompt, "unreadable")


def test_in_a_loop_of_ones_own(judge) -> None:
    reward = JudgeReward(judge, scale="rank")
    assert reward([SUM] * 3, ["3", "9", "5"]) == [0.0, 1.0, 0.5]
    with pytest.raises(ValueError, match="there is only one"):
        reward([SUM], ["3"])
    with pytest.raises(ValueError, match="1 prompts and 2 completions"):
        reward([SUM], ["3", "4"])


def test_the_judge_is_shown_the_columns_that_are_named(judge) -> None:
    reward = JudgeReward(judge, reference="solution", principles="rubric")
    columns = {"solution": [2, None], "rubric": ["Be right.", "Be right."], "other": ["x", "y"]}
    reward.trl(prompts=[SUM] * 2, completions=["3", "4"], **columns)
    shown = {(e.responses, e.reference, e.principles) for e in judge.asked}
    assert shown == {(("3",), "2", "Be right."), (("4",), None, "Be right.")}
    with pytest.raises(ValueError, match="there is no column 'solution', but rubric"):
        reward.trl(prompts=[SUM], completions=["3"], rubric=["x"], solution="text")
    verl = JudgeReward(judge, reference="ground_truth").verl
    called_by_verl(verl, ["3"])
    assert judge.asked[-1].reference == "2"


def test_a_rubric_is_given_to_rows_without_principles_of_their_own(judge, tmp_path) -> None:
    path = tmp_path / "rubric.json"
    path.write_text('{"accuracy": 6, "brevity": 2}')
    reward = JudgeReward(judge, rubric=path, principles="own", k=4)
    assert reward([SUM] * 3, ["3", "9", "5"], own=[None, None, "Be kind."]) == [3.0, 9.0, 5.0]
    shown = {example.principles: example.responses for example in judge.asked}
    assert shown == {"accuracy (6), brevity (2)": ("3", "9"), "Be kind.": ("5",)}
    assert reward.given is not None
    assert (reward.given.usage.judgments, reward.given.usage.saved) == (8, 24)
    with pytest.raises(FileNotFoundError, match="no file of principles"):
        JudgeReward(judge, rubric=tmp_path / "none.json")


@pytest.mark.parametrize(
    "settings",
    [{"k": 0}, {"group": 0}, {"group": 1, "scale": "rank"}, {"group": 1, "scale": "best"}],
)
def test_settings_out_of_range_are_refused(judge, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        JudgeReward(judge, **settings)
