"""`Service`: what every route stands on: limits, cohorts, and callers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from fastapi import Request

from grm_jax.judging.judgment import Judgment, Refusal, Verdict, check_adaptive
from grm_jax.judging.principles import GivenPrinciples
from grm_jax.sampling.request import Completion
from grm_jax.sampling.strategy import Strategy
from grm_jax.serve.cohorts import Cohorts, Share
from grm_jax.serve.config import ServeCommand, seconds
from grm_jax.serve.errors import UNREADABLE, as_refusals, refused
from grm_jax.serve.job import Job, Prompt, Question
from grm_jax.serve.loop import JudgeLoop
from grm_jax.serve.metrics import Metrics
from grm_jax.serve.principles import ServedPrinciples
from grm_jax.text.messages import Example, Message, as_messages, repair_surrogates

T = TypeVar("T")


class Asked(NamedTuple):
    """What callers of one cohort have in common."""

    prompt: tuple[Message, ...]
    k: int
    reference: str | None = None
    principles: str | None = None


@dataclass(frozen=True)
class Score:
    """One response's part of a verdict: its mean score, the ends of the scale, and its group."""

    mean: float
    low: float
    high: float
    verdict: Verdict

    @property
    def normalised(self) -> float:
        """The mean score on a scale from 0 to 1."""
        return (self.mean - self.low) / (self.high - self.low)


class Service:
    """The judge of a server, for its routes.

    Args:
        loop: owns the engine.
        command: the server's options.
        metrics: counts.
    """

    def __init__(self, loop: JudgeLoop, command: ServeCommand, metrics: Metrics):
        self.loop, self.command, self.metrics = loop, command, metrics
        self.draining = False
        self._asyncio: asyncio.AbstractEventLoop | None = None
        self._given = None
        if command.principles is not None:
            given = GivenPrinciples(command.principles, loop.judge)
            self._given = ServedPrinciples(
                given, loop.judge, self.complete, metrics.principles_written.inc
            )
        wait = seconds("cohort_wait", command.cohort_wait)
        self._cohorts = Cohorts(command.cohort, wait, self._cohort, metrics.cohorts.observe)

    def check_model(self, name: str | None) -> None:
        """Refuses a model that is not the one that is served: a request cannot load any."""
        if name not in (None, "", self.command.served_name):
            raise refused(
                f"there is no model {name[:80]!r} here; this server has "
                f"{self.command.served_name!r} alone.",
                404,
            )

    def question(
        self,
        prompt: Any,
        responses: Sequence[str],
        *,
        k: int | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        reference: str | None = None,
        show_reference: bool = True,
        principles: str | None = None,
        adaptive: bool | float = False,
        id: str = "",
    ) -> Question:
        """A question within the limits; what is not given is the server's. Else a 422.

        adaptive: where only the winner counts.
        """
        limits = self.command.limits
        if len(responses) > limits.responses:
            raise refused(
                f"there are {len(responses)} responses, and this server takes {limits.responses}."
            )
        k = self.command.k if k is None else k
        if not 1 <= k <= limits.k:
            raise refused(f"k is {k}; give 1 to {limits.k}.")
        with as_refusals():
            own = repair_surrogates(id)
            example = Example(prompt, responses, own, reference=reference, principles=principles)
            strategy = self.strategy(temperature, top_p)
            check_adaptive(adaptive)
        if adaptive and self.command.meta_rm is not None:
            raise refused("adaptive voting counts all its samples, and there is a meta RM here.")
        return Question(example, k, seed, strategy, show_reference, adaptive)

    def strategy(self, temperature: float | None, top_p: float | None = None) -> Strategy:
        """The server's strategy, with what a request says otherwise.

        Raises:
            ValueError: a value out of its range.
        """
        said = {"temperature": temperature, "top_p": top_p}
        given = {name: value for name, value in said.items() if value is not None}
        return replace(self.command.strategy, **given)

    async def begin(
        self, question: Question, on_vote: Callable[[Judgment], None] | None = None
    ) -> Job:
        """Hands a question to the engine's thread; errors are a 422, and Busy."""
        self._check_ready()
        if self._given is not None and question.example.principles is None:
            example = await self._given.give(question.example)
            question = replace(question, example=example)
        with as_refusals():
            job = await asyncio.to_thread(self.loop.job, question, on_vote)
        self.loop.submit(job)
        return job

    async def complete(self, prompt: Prompt) -> tuple[Completion[Any], ...]:
        """The completions of a prompt; a caller that is cancelled gives it up."""
        self._check_ready()
        with as_refusals():
            job = await asyncio.to_thread(self.loop.prompt_job, prompt)
        self.loop.submit(job)
        try:
            return await asyncio.wrap_future(job.result)
        finally:
            self.loop.cancel(job)

    def _check_ready(self) -> None:
        if not self.loop.ready.is_set():
            raise refused("the server is warming up: ask again when /ready says so.", 503)
        self.loop.check_room()

    async def finish(self, job: Job) -> Verdict:
        """The verdict; a caller that is cancelled gives the job up."""
        try:
            result = await asyncio.wrap_future(job.result)
        finally:
            self.loop.cancel(job)
        if isinstance(result, Refusal):
            raise refused(result.error, code=UNREADABLE)
        return result

    async def verdict(self, question: Question) -> Verdict:
        """The verdict on a question."""
        return await self.finish(await self.begin(question))

    async def score(self, prompt: Any, response: str, **settings: Any) -> Score:
        """The score of one response, judged together with others of its cohort, if there are."""
        self._asyncio = asyncio.get_running_loop()
        question = self.question(prompt, [response], **settings)
        example = question.example
        asked = Asked(example.prompt, question.k, example.reference, example.principles)
        share: Share = await self._cohorts.join(asked, example.responses[0])
        return self.part(share.verdict, share.index)

    async def scores(
        self,
        rows: Sequence[tuple[Any, str]],
        references: Sequence[str | None],
        principles: Sequence[str | None],
    ) -> list[Score]:
        """The scores of the responses to prompts, asked for at the same time; the first that fails
        ends all. A 422 where there are none, or more than the queue could ever hold."""
        most = self.command.limits.queue
        if not 1 <= len(rows) <= most:
            raise refused(f"there are {len(rows)} rows in the request; send 1 to {most}.")
        tasks = [
            asyncio.ensure_future(self.score(*row, reference=reference, principles=given))
            for row, reference, given in zip(rows, references, principles, strict=True)
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def part(self, verdict: Verdict, index: int) -> Score:
        """One response's part of a verdict."""
        template = self.loop.judge.asking.template(len(verdict.scores))
        low, high = (0, 1) if template.chooses else (template.low, template.high)
        return Score(verdict.mean_scores[index], low, high, verdict)

    async def _cohort(self, asked: Asked, responses: Sequence[str]) -> Verdict:
        question = self.question(
            asked.prompt,
            responses,
            k=asked.k,
            reference=asked.reference,
            principles=asked.principles,
        )
        return await self.verdict(question)

    def drain(self) -> None:
        """Says that the server is about to end: no caller is held for others any more. May be
        called from any thread, and from a signal's handler."""
        self.draining = True
        if self._asyncio is not None:
            self._asyncio.call_soon_threadsafe(self._cohorts.flush)


def turns(prompt: Any) -> tuple[Message, ...]:
    """A prompt of any form as turns; else a 422."""
    with as_refusals():
        return as_messages(prompt)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is given up if the caller goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise refused("the client went away.", 499)
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
