"""Every check of a response, and what a judge makes of it: a score and the name of the fault."""

from __future__ import annotations

from collections.abc import Sequence

from grm_jax.data.real.faults import (
    emptiness,
    ending,
    figures,
    final,
    operands,
    order,
    repetition,
    sums,
    topic,
)
from grm_jax.data.real.finding import Finding, Query

# In the order in which a critique speaks of them.
CHECKS = (
    topic.check,
    order.check,
    figures.check,
    operands.check,
    sums.check,
    repetition.check,
    ending.check,
    final.check,
)
# What each fault takes off the score, and what it is called.
FAULTS = {
    "topic": (7, "off topic"),
    "order": (3, "out of order"),
    "figures": (4, "a number misquoted"),
    "operands": (5, "a number not given"),
    "sums": (4, "a wrong sum"),
    "repetition": (3, "repetition"),
    "ending": (3, "cut off"),
    "answer": (6, "no right answer"),
    "emptiness": (8, "nothing there"),
    "constraint": (4, "the constraint broken"),
}
BEST = 9


def inspect(query: Query, response: str) -> tuple[Finding, ...]:
    """What all checks that apply find in the response; of an empty one that it is empty."""
    if (nothing := emptiness.check(query, response)) is not None:
        return (nothing,)
    found = [finding for check in CHECKS if (finding := check(query, response)) is not None]
    if query.constraint is not None:
        found.append(query.constraint.finding(response))
    return tuple(found)


def failed(findings: Sequence[Finding]) -> set[str]:
    """The checks that the response fails."""
    return {finding.check for finding in findings if not finding.ok}


def score(findings: Sequence[Finding]) -> int:
    """1..10: nine without a fault, and less by what each takes off."""
    return max(1, BEST - sum(FAULTS[check][0] for check in failed(findings)))
