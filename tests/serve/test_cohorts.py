"""Cohorts: who is judged together, in what order, and what becomes of those that leave."""

import asyncio
from dataclasses import dataclass

import pytest

pytest.importorskip("fastapi")

from grm_jax.serve.cohorts import Cohorts


@dataclass
class Script:
    """Judges by noting what it was given; waits until it is let go."""

    def __post_init__(self):
        self.asked: list[tuple[str, list[str]]] = []
        self.sizes: list[int] = []
        self.go = asyncio.Event()
        self.go.set()
        self.cancelled = 0

    async def __call__(self, key, responses):
        self.asked.append((key, list(responses)))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if key == "bad":
            raise ValueError("no verdict")
        return "verdict"


def test_a_full_cohort_is_judged_at_once_in_the_order_of_its_texts() -> None:
    async def run() -> None:
        script = Script()
        cohorts = Cohorts(3, 600.0, script, script.sizes.append)
        shares = await asyncio.gather(*(cohorts.join("p", text) for text in ("c", "a", "b")))
        assert [share.index for share in shares] == [2, 0, 1]
        assert script.asked == [("p", ["a", "b", "c"])]
        assert script.sizes == [3]

    asyncio.run(run())


def test_prompts_are_kept_apart_and_a_cohort_that_is_not_full_goes_after_its_wait() -> None:
    async def run() -> None:
        script = Script()
        cohorts = Cohorts(3, 0.0, script, script.sizes.append)
        await asyncio.gather(cohorts.join("p", "x"), cohorts.join("q", "y"), cohorts.join("p", "z"))
        assert sorted(script.asked) == [("p", ["x", "z"]), ("q", ["y"])]

    asyncio.run(run())


def test_a_server_that_ends_waits_for_nobody() -> None:
    async def run() -> None:
        script = Script()
        cohorts = Cohorts(3, 600.0, script, script.sizes.append)
        joined = asyncio.ensure_future(cohorts.join("p", "x"))
        await asyncio.sleep(0)
        cohorts.flush()
        assert (await joined).index == 0
        assert (await cohorts.join("p", "y")).index == 0

    asyncio.run(run())


def test_what_fails_fails_for_all_and_the_next_ones_are_a_new_cohort() -> None:
    async def run() -> None:
        script = Script()
        cohorts = Cohorts(2, 600.0, script, script.sizes.append)
        for _ in range(2):
            both = cohorts.join("bad", "x"), cohorts.join("bad", "y")
            found = await asyncio.gather(*both, return_exceptions=True)
            assert [str(error) for error in found] == ["no verdict"] * 2

    asyncio.run(run())


def test_who_leaves_is_not_judged_and_where_all_leave_nothing_is() -> None:
    async def run() -> None:
        script = Script()
        cohorts = Cohorts(2, 600.0, script, script.sizes.append)
        first, second, third = (asyncio.ensure_future(cohorts.join("p", text)) for text in "abc")
        await asyncio.sleep(0)
        assert script.asked == []  # its task has not begun
        await asyncio.sleep(0)
        assert script.asked == [("p", ["a", "b"])]
        third.cancel()  # alone, before there are two
        await asyncio.wait({third})
        script.go.clear()
        late = [asyncio.ensure_future(cohorts.join("p", text)) for text in "de"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert script.asked[1:] == [("p", ["d", "e"])]
        late[0].cancel()
        await asyncio.sleep(0)
        assert script.cancelled == 0
        late[1].cancel()
        await asyncio.wait(late)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert script.cancelled == 1
        await asyncio.gather(first, second)

    asyncio.run(run())
