"""Cohorts: callers that send one response at a time, held together by prompt.

OpenRLHF, verl and slime send each response of a group by itself, and a judge that sees the group
judges better. The first caller with a prompt waits a while for others with the same one; a full
cohort waits no longer. The responses are put in order by their texts, so that a cohort's verdict
does not depend on who came first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from grm_jax.judging.judgment import Verdict

Judging = Callable[[Any, Sequence[str]], Awaitable[Verdict]]


class Share(NamedTuple):
    """A caller's part of a verdict: which response of it is the caller's."""

    verdict: Verdict
    index: int


@dataclass(eq=False)
class _Cohort:
    members: list[tuple[str, asyncio.Future[Share]]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None


class Cohorts:
    """Holds single responses until they are judged together.

    Args:
        size: responses that are judged together, at most; 1 holds nobody.
        wait: seconds that the first of them waits for others.
        judge: judges the responses to what a key stands for.
        watch: is told the size of each cohort.
    """

    def __init__(
        self, size: int, wait: float, judge: Judging, watch: Callable[[int], object]
    ) -> None:
        self._size, self._wait, self._judge, self._watch = size, wait, judge, watch
        self._gathering: dict[Any, _Cohort] = {}

    async def join(self, key: Any, response: str) -> Share:
        """The caller's part of the verdict on its cohort: those with the same key.

        A caller that is cancelled leaves; where all have left, nothing is judged any more.

        Raises:
            whatever `judge` raises, for all of the cohort.
        """
        cohort = self._gathering.setdefault(key, _Cohort())
        member = (response, asyncio.get_running_loop().create_future())
        cohort.members.append(member)
        if len(cohort.members) >= self._size:
            self._close(key, cohort)
        elif cohort.timer is None:
            loop = asyncio.get_running_loop()
            cohort.timer = loop.call_later(self._wait, self._close, key, cohort)
        try:
            return await member[1]
        finally:
            if member[1].cancelled():
                self._leave(key, cohort, member)

    def flush(self) -> None:
        """Judges all that are gathering, as they are, and holds nobody from now on."""
        self._size = 1
        for key, cohort in list(self._gathering.items()):
            self._close(key, cohort)

    def _close(self, key: Any, cohort: _Cohort) -> None:
        if self._gathering.get(key) is cohort:
            del self._gathering[key]
        if cohort.timer is not None:
            cohort.timer.cancel()
        if cohort.members and cohort.task is None:
            cohort.members.sort(key=lambda member: member[0])
            self._watch(len(cohort.members))
            cohort.task = asyncio.create_task(self._run(key, cohort))

    def _leave(self, key: Any, cohort: _Cohort, member: tuple[str, asyncio.Future[Share]]) -> None:
        if cohort.task is None:
            cohort.members.remove(member)
            if not cohort.members:
                self._close(key, cohort)
        elif all(future.done() for _, future in cohort.members):
            cohort.task.cancel()

    async def _run(self, key: Any, cohort: _Cohort) -> None:
        try:
            verdict = await self._judge(key, [response for response, _ in cohort.members])
        except Exception as error:
            for _, future in cohort.members:
                if not future.done():
                    future.set_exception(error)
        else:
            for index, (_, future) in enumerate(cohort.members):
                if not future.done():
                    future.set_result(Share(verdict, index))
