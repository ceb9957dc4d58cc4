"""A job: a question, or a prompt, on its way through the server, and what may come back in place of
a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.judging.pending import Pending
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example


@dataclass(frozen=True)
class Question:
    """An Example to judge with k samples.

    seed, strategy: None is the server's. show_reference: a reference that is not shown still names
    the random streams, as it does in `Judge`. adaptive: fewer samples, see `Judge.sample_all`.
    """

    example: Example
    k: int
    seed: int | None = None
    strategy: Strategy | None = None
    show_reference: bool = True
    adaptive: bool | float = False


@dataclass(frozen=True)
class Prompt:
    """Tokens to be continued n times, as they are; `stream` names the random stream."""

    tokens: Sequence[int]
    stream: str
    n: int = 1
    seed: int | None = None
    strategy: Strategy | None = None


@dataclass(frozen=True)
class Numbered:
    """What a prompt's samples belong to: the number of its job."""

    id: str


class Busy(Exception):
    """There is no room for another job; try again in `retry_after` seconds."""

    def __init__(self, retry_after: int):
        super().__init__(f"the server is busy: try again in {retry_after} s.")
        self.retry_after = retry_after


class Fault(Exception):
    """A job failed for a reason that is the server's, in a sentence."""


@dataclass(eq=False)
class Job:
    """A question, or a prompt, on its way.

    Attributes:
        judge: the loop's, with the question's seed and strategy.
        pending: the judgments that are there, or the completions of a prompt. Its Example, or
            Numbered, has the job's number as its id.
        on_vote: is called with each judgment, in the loop's thread.
        result: the verdict, or why there is none; of a prompt its completions; cancelled, or a
            Fault.
    """

    question: Question | Prompt
    judge: Judge
    pending: Pending[Any, int, Any]
    requests: list[Request[Any]]
    on_vote: Callable[[Judgment], None] | None = None
    result: Future[Any] = field(default_factory=Future)
    handles: list[int] = field(default_factory=list)

    @property
    def number(self) -> str:
        return self.pending.owner.id

    @property
    def drawn_as(self) -> tuple[int, Strategy]:
        """What all samples that are drawn at a time have in common."""
        return self.judge.sampler.seed, self.judge.sampler.strategy

    def settle(self, result: Verdict | Refusal | tuple[Completion[Any], ...] | Exception) -> None:
        """Gives the result, unless the job was given up in the meantime."""
        try:
            if isinstance(result, Exception):
                self.result.set_exception(result)
            else:
                self.result.set_result(result)
        except InvalidStateError:
            pass
