"""What a check finds in a response, and the query that it holds the response against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A fact that can be read off a response.

    Attributes:
        check: which check it is of.
        ok: whether it speaks for the response.
        says: the fact as a predicate ("ends with ..."), in one or more wordings. What is quoted
            comes before what follows from it, and in the same words whether that is good or bad: a
            small model that has to say first whether a text keeps a wish says so without looking.
    """

    check: str
    ok: bool
    says: tuple[str, ...]


@dataclass(frozen=True)
class Constraint:
    """A wish that a rule can check.

    Attributes:
        name: which kind of constraint it is.
        instruction: the sentence that follows the prompt.
        check: the rule; it returns whether a text keeps it, and the fact in some wordings.
    """

    name: str
    instruction: str
    check: Callable[[str], tuple[bool, tuple[str, ...]]]

    def finding(self, response: str) -> Finding:
        """The rule applied to a response."""
        return Finding("constraint", *self.check(response))


@dataclass(frozen=True)
class Query:
    """What was asked.

    Attributes:
        topic: the prompt without the constraint.
        constraint: what else is asked for.
        gold: the right final answer, of a problem.
        working: a solution that leads there.
    """

    topic: str
    constraint: Constraint | None = None
    gold: str | None = None
    working: str | None = None

    @property
    def text(self) -> str:
        """The prompt as it is shown."""
        wish = self.constraint
        return "\n\n".join(filter(None, (self.topic, wish and wish.instruction)))
