"""Cohorts: responses that come one at a time, gathered by prompt and judged together.

OpenRLHF, verl and slime send each response of a group by itself, and a judge that sees the group
judges better. Here is who waits for whom, and nothing else: no clock, no thread, no event loop.
`grm_jax.rewards` and `grm_jax.serve` bring theirs: each starts a timer when a cohort begins, and
has a cohort judged once it is closed.

A cohort is judged in the order of its texts, so that its verdict does not depend on who came first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

# What a member's coming makes of its cohort.
Joined = Literal["begun", "waiting", "full"]


class Promise(Protocol):
    """A future of threads or of asyncio."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Any, /) -> None: ...


Response = TypeVar("Response")
Promised = TypeVar("Promised", bound=Promise)


class Member(NamedTuple, Generic[Response, Promised]):
    """A response, and what its owner waits for."""

    response: Response
    promise: Promised


@dataclass(eq=False)
class Cohort(Generic[Response, Promised]):
    """The members with one key.

    Attributes:
        members: as they came; once it is closed, in the order of their texts.
        closed: nobody joins any more: it is to be judged, or everybody has left.
        left: how many have left since.
    """

    key: Any
    members: list[Member[Response, Promised]] = field(default_factory=list)
    closed: bool = False
    left: int = 0

    @property
    def responses(self) -> list[Response]:
        """What is judged together."""
        return [member.response for member in self.members]

    def hand_back(self, outcome: Sequence[Any] | BaseException) -> None:
        """Gives each member its own result, or all of them the error. Who has left gets nothing."""
        failed = isinstance(outcome, BaseException)
        results = [outcome] * len(self.members) if failed else outcome
        for member, result in zip(self.members, results, strict=True):
            if member.promise.done():
                continue
            if failed:
                member.promise.set_exception(result)
            else:
                member.promise.set_result(result)


class Gathering(Generic[Response, Promised]):
    """The cohorts that wait for members: one for each key, at most.

    Args:
        size: members of a cohort, at most; one that has so many is closed.
        text: what members are put in order by.
    """

    def __init__(self, size: int, text: Callable[[Response], str]):
        self._size, self._text = size, text
        self._open: dict[Any, Cohort[Response, Promised]] = {}

    def join(
        self, key: Any, response: Response, promise: Promised
    ) -> tuple[Cohort[Response, Promised], Joined]:
        """The cohort that a response is now in. "begun": `close` it after a while; "full": it is
        closed, and the caller has it judged."""
        cohort = self._open.setdefault(key, Cohort(key))
        cohort.members.append(Member(response, promise))
        if len(cohort.members) >= self._size:
            self.close(cohort)
            return cohort, "full"
        return cohort, "begun" if len(cohort.members) == 1 else "waiting"

    def close(self, cohort: Cohort[Response, Promised]) -> bool:
        """Closes a cohort, as it has waited long enough. True: the caller has it judged. False: it
        was closed before."""
        if cohort.closed:
            return False
        del self._open[cohort.key]
        cohort.closed = True
        cohort.members.sort(key=lambda member: self._text(member.response))
        return True

    def leave(self, cohort: Cohort[Response, Promised], promise: Promised) -> bool:
        """Takes out a member that gives up; one that is being judged stays among the responses.
        True: nobody waits for this cohort any more."""
        if cohort.closed:
            cohort.left += 1
            return cohort.left == len(cohort.members)
        cohort.members = [member for member in cohort.members if member.promise is not promise]
        return not cohort.members and self.close(cohort)

    def flush(self) -> list[Cohort[Response, Promised]]:
        """Closes all cohorts, which the caller has judged; from now on nobody waits for others."""
        self._size = 1
        return [cohort for cohort in list(self._open.values()) if self.close(cohort)]
