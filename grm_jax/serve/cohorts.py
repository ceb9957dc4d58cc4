"""Cohorts of a server's callers, in its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from grm_jax.judging.cohort import Cohort, Gathering
from grm_jax.judging.judgment import Verdict

Judging = Callable[[Any, Sequence[str]], Awaitable[Verdict]]


class Share(NamedTuple):
    """A caller's part of a verdict: which response of it is the caller's."""

    verdict: Verdict
    index: int


_Callers = Cohort[str, asyncio.Future[Share]]


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
        self._wait, self._judge, self._watch = wait, judge, watch
        self._gathering = Gathering[str, asyncio.Future[Share]](size, text=str)
        # What a cohort waits for: its timer, and then its verdict.
        self._next: dict[_Callers, asyncio.TimerHandle | asyncio.Task[None]] = {}

    async def join(self, key: Any, response: str) -> Share:
        """The caller's part of the verdict on its cohort: those with the same key.

        A caller that is cancelled leaves; where all have left, nothing is judged any more.

        Raises:
            whatever `judge` raises, for all of the cohort.
        """
        loop = asyncio.get_running_loop()
        share: asyncio.Future[Share] = loop.create_future()
        cohort, joined = self._gathering.join(key, response, share)
        if joined == "full":
            self._begin(cohort)
        elif joined == "begun":
            self._next[cohort] = loop.call_later(self._wait, self._wait_no_longer, cohort)
        try:
            return await share
        finally:
            nobody = share.cancelled() and self._gathering.leave(cohort, share)
            # A verdict may have come since it was cancelled, and then there is nothing more.
            if nobody and (coming := self._next.pop(cohort, None)):
                coming.cancel()

    def flush(self) -> None:
        """Judges all that are gathering, as they are, and holds nobody from now on."""
        for cohort in self._gathering.flush():
            self._begin(cohort)

    def _wait_no_longer(self, cohort: _Callers) -> None:
        if self._gathering.close(cohort):
            self._begin(cohort)

    def _begin(self, cohort: _Callers) -> None:
        if timer := self._next.get(cohort):
            timer.cancel()
        self._watch(len(cohort.members))
        self._next[cohort] = asyncio.create_task(self._run(cohort))

    async def _run(self, cohort: _Callers) -> None:
        try:
            verdict = await self._judge(cohort.key, cohort.responses)
        except Exception as error:
            cohort.hand_back(error)
        else:
            cohort.hand_back([Share(verdict, index) for index in range(len(cohort.members))])
        finally:
            self._next.pop(cohort, None)
