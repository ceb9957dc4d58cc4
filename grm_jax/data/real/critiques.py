"""What a judge is to write of an item: only what the checks read off its texts.

The label is not used. The same checks speak of every response in the same order, good or bad.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from grm_jax.data.real.equations import equations, number
from grm_jax.data.real.faults.final import plain_number
from grm_jax.data.real.finding import Finding, Query
from grm_jax.data.real.inspection import FAULTS, failed, inspect, score
from grm_jax.data.real.sentences import quoted

WORKING = 300  # characters of a solution that is told in full

CONSTRAINT = ("keeping to {}", "doing what {} asks")
ANSWER = ("the right answer", "a correct answer")
SUMS = ("sums that hold", "sound working")
QUERY = ("being on topic", "staying with the query")
WHOLE = ("being whole, with nothing twice", "completeness, without repetition")
NO_FAULT = ("No fault.", "Fault: none.")
WORKED = ("Worked out: {}.", "By my count: {}.")


def critique(query: Query, responses: Sequence[str], rng: Generator, *, binary: bool) -> str:
    r"""Criteria, an analysis of each response and the scores, in the form of the templates.

    binary: right or wrong, 1 or 0, as the template `single` asks.
    """
    style = int(rng.integers(6))
    found = [inspect(query, response) for response in responses]
    told = [_told(findings, i, len(found), style) for i, findings in enumerate(found, 1)]
    scores = [int(not failed(one)) if binary else score(one) for one in found]
    if (worked := working(query)) is not None:
        told.insert(0, _of(WORKED, style).format(worked))
    analysis = " ".join(told)
    return (
        f"Specific Criteria: {_criteria(query, style)}\n"
        f"Analysis: {analysis}\n"
        f"Scores: \\boxed{{{', '.join(map(str, scores))}}}"
    )


def _of(wordings: Sequence[str], style: int) -> str:
    return wordings[style % len(wordings)]


def _criteria(query: Query, style: int) -> str:
    """What matters for this query, with weights that sum to ten."""
    parts = []
    if query.constraint is not None:
        wish = quoted(query.constraint.instruction)
        parts.append((_of(CONSTRAINT, style).format(wish), 4))
    if query.gold is not None:
        parts += [(_of(ANSWER, style), 4), (_of(SUMS, style), 3)]
    shared = 10 - sum(weight for _, weight in parts)
    parts += [(_of(QUERY, style), shared - shared // 2), (_of(WHOLE, style), shared // 2)]
    return "; ".join(f"{name} ({weight})" for name, weight in parts)


def working(query: Query) -> str | None:
    """A problem worked out: the sums of a solution where the last one makes the answer, else the
    solution itself; None where that is long, and for what is no problem."""
    if query.gold is None or query.working is None:
        return None
    steps = equations(query.working)
    if steps and number(steps[-1].result) == plain_number(query.gold):
        text = "; ".join(one.text for one in steps)
        return text if len(text) <= WORKING else None
    *lines, _ = query.working.splitlines()  # the last one only gives the answer
    text = "; ".join(line.strip().rstrip(".") for line in lines if line.strip())
    return f"{text}; so {query.gold}" if 0 < len(text) <= WORKING else None


def _told(findings: Sequence[Finding], place: int, count: int, style: int) -> str:
    """What is found in a response, and the names of its faults."""
    names = (f"Response {place}", f"[{place}]") if count > 1 else ("The response", "It")
    facts = "; ".join(_of(one.says, style) for one in findings)
    wrong = [FAULTS[one.check][1] for one in findings if not one.ok]
    verdict = f"Fault: {', '.join(wrong)}." if wrong else _of(NO_FAULT, style)
    return f"{_of(names, style)} {facts}. {verdict}"
