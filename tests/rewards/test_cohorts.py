"""Completions that come one by one are judged with the others of their prompt."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from grm_jax.rewards import JudgeReward
from grm_jax.rewards.cohorts import Cohorts
from grm_jax.rewards.rows import Row

LONG = 3600.0  # no test waits for it


def by_hand(size: int, wait: float) -> tuple[Cohorts, list[tuple[list[Any], Future]]]:
    """Cohorts, and the calls that they make, which the test answers."""
    calls: list[tuple[list[Any], Future]] = []

    def submit(rows: Any) -> Future:
        calls.append(([row.completion for row in rows], Future()))
        return calls[-1][1]

    return Cohorts(submit, size, wait), calls


def test_a_cohort_goes_when_it_is_full_and_in_the_order_of_its_texts() -> None:
    cohorts, calls = by_hand(3, LONG)
    futures = {(p, c): cohorts.submit(Row(p, c)) for p, c in zip("ppqpq", "cazbx", strict=True)}
    assert [texts for texts, _ in calls] == [["a", "b", "c"]]
    assert not any(future.done() for future in futures.values())
    calls[0][1].set_result(["of a", "of b", "of c"])
    assert {key[1]: f.result(0) for key, f in futures.items() if key[0] == "p"} == {
        "a": "of a",
        "b": "of b",
        "c": "of c",
    }
    cohorts.submit(Row("p", "d"))
    assert len(calls) == 1, "the next one waits for others"
    cohorts.submit(Row("q", "y"))
    assert calls[1][0] == ["x", "y", "z"]


def test_whoever_comes_first_the_cohort_is_the_same() -> None:
    for order in ("abc", "cab", "bca"):
        cohorts, calls = by_hand(3, LONG)
        for text in order:
            cohorts.submit(Row("p", text))
        assert calls[0][0] == ["a", "b", "c"]


def test_an_error_is_everybodys_and_who_gave_up_is_not_judged() -> None:
    cohorts, calls = by_hand(3, LONG)
    first, second = cohorts.submit(Row("p", "a")), cohorts.submit(Row("p", "b"))
    assert first.cancel()
    third = cohorts.submit(Row("p", "c"))
    assert calls[0][0] == ["b", "c"]
    calls[0][1].set_exception(RuntimeError("out of memory"))
    for future in (second, third):
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(0)


def test_after_the_wait_those_go_that_are_there(judge) -> None:
    told = JudgeReward(judge, cohort=4, wait=0.0).verl("s", "3", None, {"question": "q"})
    assert told["score"] == 3.0


@pytest.mark.parametrize("way", ["verl", "verl_async", "openrlhf"])
def test_one_by_one_is_judged_as_a_group(judge, way: str) -> None:
    function = getattr(JudgeReward(judge, k=2, cohort=4, wait=LONG), way)
    answers = ["3", "9", "5", "it is 4"]

    def call(question: str, answer: str) -> Any:
        if way == "openrlhf":
            (reward,) = function([f"{question}{answer}"], [question], [""])["rewards"]
            return reward
        asked = {"data_source": "s", "solution_str": answer, "ground_truth": None}
        told = function(**asked, extra_info={"question": question})
        return told if asyncio.iscoroutine(told) else told["score"]

    pairs = [(question, answer) for answer in answers for question in ("q: ", "r: ")]

    async def together() -> list[float]:
        return [told["score"] for told in await asyncio.gather(*(call(*one) for one in pairs))]

    if way == "verl_async":
        rewards = asyncio.run(together())
    else:
        with ThreadPoolExecutor(len(pairs)) as pool:
            rewards = list(pool.map(lambda one: call(*one), pairs))
    assert rewards == [3.0, 3.0, 9.0, 9.0, 5.0, 5.0, 4.0, 4.0]
    assert {example.responses for example in judge.asked} == {("3", "5", "9", "it is 4")}
    assert len(judge.asked) == 2


def test_what_is_no_prompt_is_an_error_and_waits_for_nobody(judge) -> None:
    reward = JudgeReward(judge, cohort=4, wait=LONG)
    with pytest.raises(ValueError, match="only text is read"):
        reward.verl(
            "s", "3", None, {"question": [{"role": "user", "content": [{"type": "image"}]}]}
        )


@pytest.mark.parametrize("settings", [{"cohort": 0}, {"cohort": 2, "wait": -1.0}])
def test_settings_out_of_range_are_refused(judge, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one completion"):
        JudgeReward(judge, **settings)
