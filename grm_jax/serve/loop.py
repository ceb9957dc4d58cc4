"""`JudgeLoop`: one thread owns the engine and steps it; everybody else hands it jobs.

Jobs that come at any time share the slots of one engine, so that a crowd costs little more than one
caller; a job's bits depend on its example, its seed and the engine's size alone. The engine draws
with one seed and one strategy at a time: a job with others waits until those that are under way are
done, and those that come later wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, Verdict
from grm_jax.judging.pending import Pending
from grm_jax.judging.voting import conclude
from grm_jax.randomness import item_key
from grm_jax.sampling.engine import Engine
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.strategy import Strategy
from grm_jax.serve.job import Busy, Fault, Job, Numbered, Prompt, Question
from grm_jax.serve.warm_up import warm_up

_LOG = logging.getLogger(__name__)
_LONGEST_RETRY = 60  # seconds that a caller is told to stay away at most


class _Tag(NamedTuple):
    """What the engine knows a prompt by, as it does an Example's."""

    pending: Pending[Numbered, int, Completion[Any]]


class Watcher(Protocol):
    """Is told what a loop does, in its thread."""

    def drawn(self, tokens: int) -> None:
        """A sample of so many tokens is there, of a judgment or of a continued prompt."""
        ...

    def judgment(self, judgment: Judgment) -> None:
        """It is a judgment, and this is what it says."""
        ...

    def saved(self, votes: int, tokens: int) -> None:
        """An example took so many samples fewer, as adaptive voting had decided it, and its
        judgments so many tokens fewer, as their principles were given."""
        ...

    def example(self, result: Verdict | Refusal) -> None:
        """An example is done."""
        ...

    def fault(self, error: Exception) -> None:
        """The engine failed."""
        ...


class JudgeLoop:
    """The thread that owns the engine of a judge.

    Args:
        judge: writes scores or choices.
        watcher: is told what happens.
        queue: jobs that may be waiting or under way.
        longest_prompt: tokens that a prompt may have; by default what the model has room for.

    Raises:
        ValueError: the judge needs more than samples.
    """

    def __init__(
        self,
        judge: Judge,
        watcher: Watcher,
        *,
        queue: int = 256,
        longest_prompt: int | None = None,
    ):
        if judge.kind not in ("grm", "judge"):
            raise ValueError(
                f"{judge.folder.path} is a judge of the kind {judge.kind!r}; `grm serve` takes "
                "those that write scores or a choice: grm, judge."
            )
        self.judge, self.limit = judge, queue
        room = judge.sampler.longest_prompt
        self.longest_prompt = min(longest_prompt or room, room)
        self.ready = threading.Event()
        self.failure: Exception | None = None
        self.on_failure: Callable[[], object] = lambda: None
        self._watcher = watcher
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._dropped: list[Job] = []
        self._stopped = False
        self._taken = 0  # jobs so far, which numbers them
        self._unfinished = 0
        self._pace = 1.0  # seconds from one result to the next, lately
        self._last = time.monotonic()
        self._open: dict[str, Job] = {}  # the thread's alone
        self._engine: Engine | None = None  # likewise
        self._thread = threading.Thread(target=self._run, name="judge-loop", daemon=True)

    def start(self) -> None:
        """Starts the thread; `ready` is set once every program is compiled. Where that cannot be,
        `failure` says why, and `on_failure` is called."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. Jobs that are not done are cancelled."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def unfinished(self) -> int:
        """Jobs that are waiting or under way."""
        return self._unfinished

    def check_room(self) -> None:
        """Raises Busy if another job would not be taken."""
        if self._unfinished >= self.limit:
            ahead = self._unfinished * self._pace
            raise Busy(min(max(round(ahead), 1), _LONGEST_RETRY))

    def job(self, question: Question, on_vote: Callable[[Judgment], None] | None = None) -> Job:
        """A question made ready, in the caller's thread: its prompts are tokens now.

        Raises:
            ValueError: it cannot be judged, and why.
        """
        judge = self._drawing(question.seed, question.strategy)
        judge.asking = replace(judge.asking, reference=question.show_reference)
        example = replace(question.example, id=self._number())
        pending, requests = judge.asked(example, question.k, question.adaptive)
        self._check_length(requests)
        return Job(question, judge, pending, requests, on_vote)

    def prompt_job(self, prompt: Prompt) -> Job:
        """A prompt made ready to be continued.

        Raises:
            ValueError: it is too long.
        """
        judge = self._drawing(prompt.seed, prompt.strategy)
        keys = tuple(range(prompt.n))
        pending = Pending[Numbered, int, Completion[Any]](Numbered(self._number()), keys)
        request = Request(prompt.tokens, item_key(prompt.stream), keys, _Tag(pending))
        self._check_length([request])
        return Job(prompt, judge, pending, [request])

    def _drawing(self, seed: int | None, strategy: Strategy | None) -> Judge:
        """The judge with a seed and a strategy; None is its own."""
        judge, sampler = copy(self.judge), self.judge.sampler
        judge.sampler = replace(
            sampler,
            seed=sampler.seed if seed is None else seed,
            strategy=strategy or sampler.strategy,
        )
        return judge

    def _number(self) -> str:
        with self._changed:
            self._taken += 1
            return str(self._taken)

    def _check_length(self, requests: Sequence[Request[Any]]) -> None:
        longest = max(len(request.tokens) for request in requests)
        if longest > self.longest_prompt:
            raise ValueError(
                f"the prompt has {longest} tokens, and this server takes {self.longest_prompt}: "
                "shorten the prompt or the responses."
            )

    def submit(self, job: Job) -> None:
        """Takes a job.

        Raises:
            Busy: there is no room.
        """
        with self._changed:
            self.check_room()
            self._unfinished += 1
            job.result.add_done_callback(self._done)
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Gives a job up, wherever it is; its slots are free at the next step."""
        if job.result.cancel():
            with self._changed:
                self._dropped.append(job)
                self._changed.notify()

    def _done(self, _: Future[Verdict | Refusal]) -> None:
        with self._changed:
            self._unfinished -= 1

    def _run(self) -> None:
        try:
            warm_up(self.judge, self.longest_prompt)
        except Exception as error:
            self.failure = error
            self.on_failure()
            return
        self.ready.set()
        while self._more():
            try:
                self._step()
            except Exception as error:
                self._fail(error)
        for job in (*self._open.values(), *self._waiting):
            job.result.cancel()

    def _more(self) -> bool:
        """Waits for something to do, and takes what is new; False: the loop is to end."""
        with self._changed:
            while not (self._stopped or self._waiting or self._dropped or self._working):
                self._changed.wait()
            dropped, self._dropped = self._dropped, []
            if dropped:
                self._waiting = deque(job for job in self._waiting if not job.result.cancelled())
            fresh, self._waiting = self._next()
            stopped = self._stopped
        for job in dropped:
            if self._open.pop(job.number, None) is not None:
                for handle in job.handles:
                    self._own().cancel(handle)
        for job in fresh:
            self._begin(job)
        return not stopped

    @property
    def _working(self) -> bool:
        return bool(self._open) or (self._engine is not None and not self._engine.idle)

    def _next(self) -> tuple[list[Job], deque[Job]]:
        """The waiting jobs that can be drawn now, and those that go on waiting.

        What is drawn as the first one is, where nothing is under way; else only such as come before
        any that is drawn otherwise, so that nobody waits for ever.
        """
        now = next(iter(self._open.values()), None) or next(iter(self._waiting), None)
        if now is None:
            return [], deque()
        alike = [job.drawn_as == now.drawn_as for job in self._waiting]
        if self._open and not all(alike):
            first = alike.index(False)
            alike = [index < first for index in range(len(alike))]
        split: tuple[list[Job], deque[Job]] = [], deque()
        for job, taken in zip(self._waiting, alike, strict=True):
            split[not taken].append(job)
        return split

    def _own(self) -> Engine:
        if self._engine is None:
            self._engine = self.judge.sampler.engine()
        return self._engine

    def _begin(self, job: Job) -> None:
        engine = self._own()
        if not self._open:
            engine.seed, engine.strategy = job.drawn_as
            self._last = time.monotonic()
        self._open[job.number] = job
        job.handles = [engine.submit(request) for request in job.requests]

    def _step(self) -> None:
        finished = []
        for completion in self._own().step():
            job = self._open.get(completion.request.tag.pending.owner.id)
            if job is None or not self._add(job, completion):
                continue
            if isinstance(job.question, Prompt):
                self._open.pop(job.number).settle(job.pending.in_order())
            elif not self._go_on(job, job.question):
                finished.append(job)
        if finished:
            self._conclude(finished)

    def _go_on(self, job: Job, question: Question) -> bool:
        """Asks for the further samples that an adaptive verdict needs; False: it needs none."""
        if not question.adaptive:
            return False
        pending, requests = job.judge.asked_further(job.pending, question.k, question.adaptive)
        if requests:
            job.pending = pending
            job.handles += [self._own().submit(request) for request in requests]
        return bool(requests)

    def _add(self, job: Job, completion: Completion[Any]) -> bool:
        self._watcher.drawn(len(completion.tokens))
        if isinstance(job.question, Prompt):
            return job.pending.add(completion.sample, completion)
        judgment = job.judge.read(completion)
        self._watcher.judgment(judgment)
        if job.on_vote is not None:
            job.on_vote(judgment)
        return job.pending.add(judgment.sample, judgment)

    def _conclude(self, finished: list[Job]) -> None:
        """Rates the judgments of all that have finished together, and gives the verdicts."""
        judge = self.judge
        drawn = [job.judge.sampled(job.pending) for job in finished]
        rated = judge.meta_rm.rate_all(drawn) if judge.meta_rm else drawn
        for sampled in rated:
            number = sampled.id if isinstance(sampled, Refusal) else sampled.example.id
            self._give(self._open[number], sampled)
            del self._open[number]  # only now: what fails above is told to its caller

    def _give(self, job: Job, sampled: Sampled | Refusal) -> None:
        now = time.monotonic()
        self._pace += 0.1 * (min(now - self._last, _LONGEST_RETRY) - self._pace)
        self._last = now
        if isinstance(sampled, Refusal):  # numbers that are not finite: no caller can help that
            self._watcher.fault(Fault(sampled.error))
            return job.settle(Fault(sampled.error))
        judge, question, drawn = job.judge, job.question, len(sampled.judgments)
        assert isinstance(question, Question)
        self._watcher.saved(question.k - drawn, drawn * len(judge.opening(sampled.example)))
        guided = judge.meta_rm is not None
        found = conclude(sampled, seed=judge.sampler.seed, k_meta=judge.k_meta, guided=guided)
        found = replace(found, id=question.example.id)
        self._watcher.example(found)
        return job.settle(found)

    def _fail(self, error: Exception) -> None:
        """Fails what is under way, and goes on with an engine of its own for the rest."""
        _LOG.error("the engine failed; it is made anew", exc_info=error)
        self._watcher.fault(error)
        self._engine = None
        jobs, self._open = list(self._open.values()), {}
        for job in jobs:
            job.settle(Fault("the judge failed; this request may be sent again."))
