"""A job: a question on its way through the server, and what may come back in place of a verdict."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.judging.pending import Pending
from grm_jax.sampling.request import Request
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example


@dataclass(frozen=True)
class Question:
    """An Example to judge with k samples.

    seed, strategy: None is the server's. show_reference: a reference that is not shown still names
    the random streams, as it does in `Judge`.
    """

    example: Example
    k: int
    seed: int | None = None
    strategy: Strategy | None = None
    show_reference: bool = True


class Busy(Exception):
    """There is no room for another job; try again in `retry_after` seconds."""

    def __init__(self, retry_after: int):
        super().__init__(f"the server is busy: try again in {retry_after} s.")
        self.retry_after = retry_after


class Fault(Exception):
    """A job failed for a reason that is the server's, in a sentence."""


@dataclass(eq=False)
class Job:
    """A question on its way.

    Attributes:
        judge: the loop's, with the question's seed and strategy.
        pending: the judgments that are there. Its Example has the job's number as its id.
        on_vote: is called with each judgment, in the loop's thread.
        result: the verdict, or why there is none; cancelled, or a Fault.
    """

    question: Question
    judge: Judge
    pending: Pending[Example, int, Judgment]
    requests: list[Request[Any]]
    on_vote: Callable[[Judgment], None] | None = None
    result: Future[Verdict | Refusal] = field(default_factory=Future)
    handles: list[int] = field(default_factory=list)

    @property
    def number(self) -> str:
        return self.pending.owner.id

    @property
    def drawn_as(self) -> tuple[int, Strategy]:
        """What all samples that are drawn at a time have in common."""
        return self.judge.sampler.seed, self.judge.sampler.strategy

    def settle(self, result: Verdict | Refusal | Exception) -> None:
        """Gives the result, unless the job was given up in the meantime."""
        try:
            if isinstance(result, Exception):
                self.result.set_exception(result)
            else:
                self.result.set_result(result)
        except InvalidStateError:
            pass
