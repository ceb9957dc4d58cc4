"""Misquoted: a number that the query gives, with another value in the response."""

from __future__ import annotations

import re
from collections.abc import Iterator

from numpy.random import Generator

from grm_jax.data.real.finding import Finding, Query
from grm_jax.data.real.sentences import stem

# A number and the word that it counts.
COUNTED = re.compile(r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)([ \t]?%?[ \t-]?)([A-Za-z]{4,})")
TRIES = 20


def check(query: Query, response: str) -> Finding | None:
    """Whether numbers are those that the query gives before the same word; None where it gives
    none that the response takes up, and for problems, in which numbers are worked out."""
    if query.gold is not None:
        return None
    asked = _counted(query.topic)
    given = set(re.findall(r"\d[\d,]*(?:\.\d+)?", query.topic))
    same = []
    for found in COUNTED.finditer(response):
        number, said = found[1].rstrip(","), asked.get(stem(found[3]))
        if said is None:
            continue
        if number == said[0]:
            same.append(found[0])
        elif number not in given:
            return Finding(
                "figures",
                False,
                (
                    f'says "{found[0]}", but the query says "{said[1]}"',
                    f'gives "{found[0]}" where the query has "{said[1]}"',
                ),
            )
    if not same:
        return None
    return Finding("figures", True, (f'keeps "{same[0]}", as the query has it',))


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response with one of the query's numbers changed."""
    asked = _counted(query.topic)
    places = [
        found
        for found in COUNTED.finditer(response)
        if (said := asked.get(stem(found[3]))) and said[0] == found[1].rstrip(",")
    ]
    if not places:
        return None
    place = places[int(rng.integers(len(places)))]
    number = other_number(place[1].rstrip(","), rng, f"{query.topic} {response}")
    if number is None:
        return None
    return response[: place.start(1)] + number + response[place.start(1) + len(number) :]


def other_number(number: str, rng: Generator, taken: str) -> str | None:
    """Another number of as many digits that does not stand in a text; None where none is found."""
    known = set(re.findall(r"\d[\d,]*(?:\.\d+)?", taken))
    for _ in range(TRIES):
        digits = list(number)
        at = int(rng.integers(len(digits)))
        if digits[at].isdigit():
            digits[at] = str(rng.integers(1, 10))
        other = "".join(digits)
        if other not in known:
            return other
    return None


def _counted(text: str) -> dict[str, tuple[str, str]]:
    """(number, as it stands) by the word that it counts, where the text has only one such."""
    found: dict[str, set[tuple[str, str]]] = {}
    for match in COUNTED.finditer(text):
        found.setdefault(stem(match[3]), set()).add((match[1].rstrip(","), match[0]))
    return {word: next(iter(ones)) for word, ones in found.items() if len(ones) == 1}


def numbers_in(text: str) -> Iterator[str]:
    """Every number of the text, without the commas in it."""
    for found in re.finditer(r"\d[\d,]*(?:\.\d+)?", text):
        yield found[0].replace(",", "")
