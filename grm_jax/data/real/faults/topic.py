"""Off topic: the answer to another prompt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from numpy.random import Generator

from grm_jax.data.real.finding import Finding, Query
from grm_jax.data.real.sentences import content_words, quoted, stem, words

TRIES = 40
LIKE = 0.35  # the largest difference in log length between an answer and the one in its place


def check(query: Query, response: str) -> Finding | None:
    """Whether the response takes up content words of the query: two of them speak for it, none
    against it; None where there is only one, or the query has fewer than two."""
    asked, said = content_words(query.topic), content_words(response)
    if len(asked) < 2 or len(said) < 2:
        return None
    shared = [word for stem_, word in said.items() if stem_ in asked]
    if len(shared) == 1:
        return None
    if shared:
        told = quoted(max(shared, key=len))
        says = (f"is about {told}, as asked", f"speaks of {told}, as the query does")
        return Finding("topic", True, says)
    asked_of = quoted(max(asked.values(), key=len))
    about = quoted(_most_used(response, said))
    return Finding(
        "topic",
        False,
        (
            f"is about {about}, not about {asked_of}",
            f"speaks of {about}, and never of {asked_of}",
        ),
    )


def spoil(query: Query, response: str, donors: Sequence[str], rng: Generator) -> str | None:
    """An answer to another prompt of about the same length that takes up no word of this query."""
    for _ in range(min(TRIES, len(donors))):
        other = donors[int(rng.integers(len(donors)))]
        if abs(math.log(len(other) / len(response))) > LIKE:
            continue
        found = check(query, other)
        if found is not None and not found.ok:
            return other
    return None


def _most_used(response: str, said: Mapping[str, str]) -> str:
    counts = Counter(map(stem, words(response)))
    return said[max(said, key=lambda stem_: counts[stem_])]
