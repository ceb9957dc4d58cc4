"""Calls from threads and event loops: each gets its own, and those that wait share a run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from grm_jax.judging.judgment import Refusal, Verdict
from grm_jax.rewards.together import Together
from grm_jax.text.messages import Example


class Echo:
    """Refuses each Example with its own response; the first run waits until it is let go."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.threads: set[int] = set()
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, examples: Iterable[Example]) -> Iterator[Verdict | Refusal]:
        asked = list(examples)
        self.runs.append(len(asked))
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.go.wait(600)
        if any("break" in example.responses for example in asked):
            raise RuntimeError("out of memory")
        assert len({example.id for example in asked}) == len(asked)
        return (Refusal(e.id, e.responses[0]) for e in reversed(asked))


def asked(*responses: str) -> list[Example]:
    return [Example("q", [response], "the same id") for response in responses]


def errors(results: list[Verdict | Refusal]) -> list[str]:
    return [result.error for result in results if isinstance(result, Refusal)]


def test_what_waits_is_judged_together_and_in_one_thread() -> None:
    echo = Echo()
    together = Together(echo)
    first = together.submit(asked("a"))
    assert echo.entered.wait(600)
    others = [together.submit(asked(f"{i}", "x", f"{i}")) for i in range(5)]
    given_up = together.submit(asked("nobody waits for this"))
    assert given_up.cancel()
    echo.go.set()
    assert errors(first.result(60)) == ["a"]
    assert [errors(o.result(60)) for o in others] == [[f"{i}", "x", f"{i}"] for i in range(5)]
    assert echo.runs == [1, 15], "what was cancelled is not judged"
    assert len(echo.threads) == 1
    assert threading.get_ident() not in echo.threads


def test_what_the_judge_raises_is_raised_in_every_call_of_the_run_and_no_other() -> None:
    echo = Echo()
    together = Together(echo)
    first = together.submit(asked("a"))
    assert echo.entered.wait(600)
    bad, beside = together.submit(asked("break")), together.submit(asked("b"))
    echo.go.set()
    assert errors(first.result(60)) == ["a"]
    for call in (bad, beside):
        with pytest.raises(RuntimeError, match="out of memory"):
            call.result(60)
    assert errors(together.submit(asked("c")).result(60)) == ["c"]


def test_nothing_to_judge_is_no_run() -> None:
    echo = Echo()
    assert Together(echo).submit([]).result(60) == []
    assert echo.runs == []


def test_many_threads_and_tasks_each_get_their_own() -> None:
    echo = Echo()
    echo.go.set()
    together = Together(echo)

    def call(i: int) -> list[str]:
        return errors(together.submit(asked(f"{i}", f"{i} again")).result(60))

    async def task(i: int) -> list[str]:
        return errors(await asyncio.wrap_future(together.submit(asked(f"{i}"))))

    async def tasks() -> list[list[str]]:
        return await asyncio.gather(*map(task, range(50)))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(50))) == [[f"{i}", f"{i} again"] for i in range(50)]
    assert asyncio.run(tasks()) == [[f"{i}"] for i in range(50)]
