"""Cohorts of a trainer's threads: completions that come one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from grm_jax.judging.cohort import Cohort, Gathering, Member
from grm_jax.rewards.rows import Row, shown
from grm_jax.rewards.scorer import Result

_Rows = Cohort[Row, Future[Result]]


class Cohorts:
    """A waiting room before a scorer.

    Args:
        submit: the results of rows.
        size: the rows of one prompt that are waited for.
        wait: seconds after which the first of them goes with those that are there.

    Raises:
        ValueError: size or wait is out of its range.
    """

    def __init__(
        self, submit: Callable[[Sequence[Row]], Future[list[Result]]], size: int, wait: float
    ):
        if size < 1 or wait < 0:
            raise ValueError(
                f"cohort is {size} and wait {wait}: give at least one completion and 0 seconds."
            )
        self._submit, self._wait = submit, wait
        self._lock = threading.Lock()
        self._gathering = Gathering[Row, Future[Result]](size, text=lambda row: str(row.completion))
        self._timers: dict[_Rows, threading.Timer] = {}

    def submit(self, row: Row) -> Future[Result]:
        """The result of the row, when its cohort was judged. One that is cancelled is not judged;
        it counts as there, since a trainer's group has a fixed size."""
        future: Future[Result] = Future()
        try:
            key = shown(row)
        except ValueError:  # which becomes the result
            self._judge(Cohort(None, [Member(row, future)]))
            return future
        with self._lock:
            cohort, joined = self._gathering.join(key, row, future)
            if joined == "begun":
                timer = threading.Timer(self._wait, self._wait_no_longer, (cohort,))
                timer.daemon = True
                self._timers[cohort] = timer
                timer.start()
            elif joined == "full" and cohort in self._timers:
                self._timers.pop(cohort).cancel()
        if joined == "full":
            self._judge(cohort)
        return future

    def _wait_no_longer(self, cohort: _Rows) -> None:
        with self._lock:
            closed = self._gathering.close(cohort)
            self._timers.pop(cohort, None)
        if closed:
            self._judge(cohort)

    def _judge(self, cohort: _Rows) -> None:
        wanted = (member.promise.set_running_or_notify_cancel() for member in cohort.members)
        cohort.members = [m for m, still in zip(cohort.members, wanted, strict=True) if still]
        judged = self._submit(cohort.responses)
        judged.add_done_callback(lambda done: cohort.hand_back(done.exception() or done.result()))
