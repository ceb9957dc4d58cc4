"""Completions that come one by one, held until the others of their prompt are there.

A cohort is judged in the order of its texts, so that it does not matter which one came first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from grm_jax.rewards.rows import Row, Shown, shown
from grm_jax.rewards.scorer import Result

Members = list[tuple[Row, Future[Result]]]


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
        self._submit, self._size, self._wait = submit, size, wait
        self._lock = threading.Lock()
        self._open: dict[Shown, Members] = {}

    def submit(self, row: Row) -> Future[Result]:
        """The result of the row, when its cohort was judged."""
        future: Future[Result] = Future()
        try:
            key = shown(row)
        except ValueError:  # which becomes the result
            self._judge([(row, future)])
            return future
        with self._lock:
            members = self._open.setdefault(key, [])
            members.append((row, future))
            first, full = len(members) == 1, len(members) == self._size
            if full:
                del self._open[key]
        if full:
            self._judge(members)
        elif first:
            timer = threading.Timer(self._wait, self._wait_no_longer, (key, members))
            timer.daemon = True
            timer.start()
        return future

    def _wait_no_longer(self, key: Shown, members: Members) -> None:
        with self._lock:
            if self._open.get(key) is not members:
                return
            del self._open[key]
        self._judge(members)

    def _judge(self, members: Members) -> None:
        ordered = sorted(members, key=lambda member: str(member[0].completion))
        wanted = [(row, future) for row, future in ordered if future.set_running_or_notify_cancel()]

        def finish(judged: Future[list[Result]]) -> None:
            if error := judged.exception():
                for _, future in wanted:
                    future.set_exception(error)
                return
            for (_, future), result in zip(wanted, judged.result(), strict=True):
                future.set_result(result)

        self._submit([row for row, _ in wanted]).add_done_callback(finish)
