"""Misread: a sum with a number that the problem does not give, and all that follows from it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from numpy.random import Generator

from grm_jax.data.math_answers import final_answer
from grm_jax.data.real.equations import Equation, computed, equations, number, written
from grm_jax.data.real.faults.figures import numbers_in, other_number
from grm_jax.data.real.finding import Finding, Query

WORDS = re.compile("[a-z]+")
# Numbers that a solution may bring along: small ones, and those of clocks, calendars and measures.
KNOWN = frozenset((*range(11), 12, 16, 24, 30, 31, 36, 48, 50, 52, 60, 100, 365, 1000, 3600))
TEENS = "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NAMED = {"dozen": 12, "hundred": 100, "thousand": 1000}
NAMED |= {word: 11 + i for i, word in enumerate(TEENS.split())}
NAMED |= {word: 20 + 10 * i for i, word in enumerate(TENS.split())}


def check(query: Query, response: str) -> Finding | None:
    """Whether every number in a sum is given, said or worked out before, or known to all; None
    where there is no sum, and for what is no problem."""
    sums = equations(response)
    if query.gold is None or not sums:
        return None
    strange = _strange(query, response, sums)
    if strange is None:
        says = ("takes no number from nowhere", "uses the numbers given")
        return Finding("operands", True, says)
    one, said = strange
    says = (
        f"takes {said} from nowhere, in {one.text}",
        f"uses {said}, which is not given, in {one.text}",
    )
    return Finding("operands", False, says)


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response with one of the problem's numbers misread in a sum, that sum and all that use it
    worked out anew, and the final answer with them; its sums hold."""
    sums = equations(response)
    given = {float(text) for text in numbers_in(query.topic)}
    places = [
        (i, j)
        for i, one in enumerate(sums)
        for j, text in enumerate(one.operands)
        if number(text) in given and number(text) > 2
    ]
    final = final_answer(response)
    if not places or final is None:
        return None
    first, place = places[int(rng.integers(len(places)))]
    misread = sums[first].operands[place].strip("$%")
    other = other_number(misread, rng, f"{query.topic} {response}")
    if other is None or number(other) in KNOWN:
        return None
    return _worked_anew(response, sums[first:], {misread: other}, final)


def _worked_anew(
    response: str, sums: Sequence[Equation], changed: dict[str, str], final: str
) -> str | None:
    """The response with numbers changed in these sums and with what follows from that."""
    parts, last = [], 0
    for one in sums:
        operands = [_changed(text, changed) for text in one.operands]
        if operands == list(one.operands):
            continue
        value = computed([number(text) for text in operands], one.operators)
        result = None if value is None or value <= 0 else written(value)
        old = one.result.strip("$%")
        if result is None or one.result.endswith("%"):
            return None
        changed = changed | {old: result}
        left = operands[0] + "".join(
            gap + text for gap, text in zip(_gaps(one), operands[1:], strict=True)
        )
        middle = one.text[len(_left(one)) : one.text.rindex(one.result)]
        parts += [response[last : one.start], left + middle + _changed(one.result, changed)]
        last = one.end
    ended = response.rstrip()
    answer = final.strip("$")
    if answer not in changed or not ended.rstrip(".").endswith(answer) or last >= len(ended):
        return None
    at = ended.rindex(answer)
    if at < last:
        return None
    return "".join([*parts, response[last:at], changed[answer], response[at + len(answer) :]])


def _changed(text: str, changed: dict[str, str]) -> str:
    bare = text.strip("$%")
    return text.replace(bare, changed.get(bare, bare))


def _left(one: Equation) -> str:
    """The left side of a sum, as it stands."""
    return one.text[: one.text.rindex("=")].rstrip()


def _gaps(one: Equation) -> list[str]:
    """What stands between the operands."""
    gaps, rest = [], _left(one)[len(one.operands[0]) :]
    for text in one.operands[1:]:
        before, _, rest = rest.partition(text)
        gaps.append(before)
    return gaps


def _strange(query: Query, response: str, sums: Sequence[Equation]) -> tuple[Equation, str] | None:
    """The first sum with a number from nowhere, and that number."""
    given = set(map(float, numbers_in(query.topic)))
    given |= {float(NAMED[word]) for word in WORDS.findall(query.topic.lower()) if word in NAMED}
    known = given | set(map(float, KNOWN))
    # 30% of something is 0.3 times it, and what is left of it 70%, or 0.7.
    known |= {share for value in given for share in (value / 100, 100 - value, 1 - value / 100)}
    known |= {1 + value / 100 for value in given}
    known = {round(value, 6) for value in known}
    last = 0
    for one in sums:
        known |= set(map(float, numbers_in(response[last : one.start])))
        for text in one.operands:
            if not {round(number(text), 6), number(text.rstrip("%"))} & known:
                return one, text
        known |= {number(one.result), round(one.value or 0.0, 6)}
        last = one.end
    return None
