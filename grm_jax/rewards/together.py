"""Calls from any thread, judged by one: what waits while the device is busy goes next, together.

A verdict does not depend on what else is judged beside it, so that neither does a reward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from grm_jax.judging.judgment import Refusal, Verdict
from grm_jax.text.messages import Example

Result = Verdict | Refusal


class Together:
    """A queue before a judge.

    Args:
        judge_all: results for Examples, in any order, each with its Example's id.
    """

    def __init__(self, judge_all: Callable[[Iterable[Example]], Iterator[Result]]):
        self._judge_all = judge_all
        self._waiting: deque[tuple[Sequence[Example], Future[list[Result]]]] = deque()
        self._worker = ThreadPoolExecutor(1, "grm_jax.rewards")

    def submit(self, examples: Sequence[Example]) -> Future[list[Result]]:
        """The results of the Examples, in their order; what the judge raises is raised there."""
        future: Future[list[Result]] = Future()
        self._waiting.append((examples, future))
        self._worker.submit(self._judge_waiting)
        return future

    def _judge_waiting(self) -> None:
        calls: list[tuple[Sequence[Example], Future[list[Result]]]] = []
        while self._waiting:  # only this thread takes from it
            examples, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                calls.append((examples, future))
        asked = [example for examples, _ in calls for example in examples]
        try:
            # Ids that differ: two calls may bring the same Example.
            named = (replace(example, id=str(i)) for i, example in enumerate(asked))
            results = {result.id: result for result in self._judge_all(named)} if asked else {}
            ordered = iter([results[str(i)] for i in range(len(asked))])
        except BaseException as error:
            for _, future in calls:
                future.set_exception(error)
            return
        for examples, future in calls:
            future.set_result([next(ordered) for _ in examples])
