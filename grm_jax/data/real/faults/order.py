"""Shuffled: sentences or numbered points in another order."""

from __future__ import annotations

import re
from itertools import pairwise

from numpy.random import Generator

from grm_jax.data.real.finding import Finding, Query
from grm_jax.data.real.sentences import listed, quoted, replaced, sentences

# What only follows something: a text cannot begin with it.
BACK = re.compile(
    r"(?:however|therefore|additionally|in addition|furthermore|moreover|finally|lastly|overall|"
    r"in conclusion|in summary|as a result|consequently|nevertheless|on the other hand|secondly|"
    r"thirdly|for this reason|that said)\b,?",
    re.IGNORECASE,
)
POINT = re.compile(r"^([ \t]*)(\d+)([.)][ \t]+)", re.M)


def check(query: Query, response: str) -> Finding | None:
    """Whether numbered points count up, and the text does not begin with a word such as "however",
    that refers back; None where there are no such points and no such word."""
    numbers = [int(number) for _, number, _ in POINT.findall(response)]
    if any(b not in (a + 1, 1) for a, b in pairwise(numbers)):
        told = listed([str(number) for number in numbers[:6]])
        says = (f"has its points in the order {told}", f"numbers its points {told}, out of order")
        return Finding("order", False, says)
    if found := BACK.match(response.lstrip("*_\"'“ ")):
        back = quoted(found[0].rstrip(","))
        says = (f"begins with {back}, after nothing", f"opens with {back}, which refers to nothing")
        return Finding("order", False, says)
    if len(numbers) > 2:
        says = (f"numbers its points up to {max(numbers)} in order",)
        return Finding("order", True, says)
    return None


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response with its points or its sentences in another order, such that it shows."""
    points = list(POINT.finditer(response))
    if len(points) > 2:
        return _points_moved(response, points, rng)
    parts = sentences(response)
    back = [i for i, part in enumerate(parts) if i and BACK.match(part)]
    if not back or len(parts) < 3:
        return None
    first = back[int(rng.integers(len(back)))]
    rest = [i for i in range(len(parts)) if i != first]
    order = [first, *(rest[i] for i in rng.permutation(len(rest)))]
    return replaced(response, [parts[i] for i in order])


def _points_moved(response: str, points: list[re.Match[str]], rng: Generator) -> str | None:
    starts = [point.start() for point in points]
    ends = [*starts[1:], len(response)]
    # What follows the last point in a paragraph of its own is no part of it.
    tail = response.find("\n\n", starts[-1])
    ends[-1] = tail if tail >= 0 else len(response)
    parts = [response[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    order = rng.permutation(len(parts)).tolist()
    if order == sorted(order):
        order.reverse()
    gap = "\n\n" if "\n\n" in response[starts[0] : starts[1]] else "\n"
    return response[: starts[0]] + gap.join(parts[i] for i in order) + response[ends[-1] :]
