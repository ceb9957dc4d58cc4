"""Repeated: a response that says a sentence over again."""

from __future__ import annotations

from collections import Counter

from numpy.random import Generator

from grm_jax.data.real.finding import Finding, Query
from grm_jax.data.real.sentences import beginning, quoted, replaced, sentences, words

LEAST, LONG = 3, 5  # words of a sentence that counts, and of one that is repeated
TIMES = {2: "twice", 3: "three times", 4: "four times"}


def check(query: Query, response: str) -> Finding:
    """Whether no sentence of three words or more comes again."""
    parts = [part for part in sentences(response) if len(words(part)) >= LEAST]
    counts = Counter(map(_plain, parts))
    again = next((part for part in parts if counts[_plain(part)] > 1), None)
    if again is None:
        return Finding("repetition", True, ("says nothing twice", "repeats nothing"))
    told = quoted(beginning(again, 5))
    times = TIMES.get(counts[_plain(again)], f"{counts[_plain(again)]} times")
    says = (f"says {told} {times}", f"repeats {told}: {times}")
    return Finding("repetition", False, says)


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response with a sentence over again: besides what it has, or in the place of other
    sentences."""
    parts = sentences(response)
    long = [i for i, part in enumerate(parts) if len(words(part)) >= LONG]
    if not long or len(parts) < 2:
        return None
    which = long[int(rng.integers(len(long)))]
    others = [i for i in range(1, len(parts)) if i != which]
    if rng.random() < 0.5 and len(others) > 1:
        count = int(rng.integers(1, max(2, len(others) // 2 + 1)))
        places = rng.choice(others, count, replace=False).tolist()
        return replaced(response, [parts[which] if i in places else p for i, p in enumerate(parts)])
    gap = "\n" if "\n" in response.strip() else " "
    more = [parts[which]] * int(rng.integers(1, 4))
    spoilt = [gap.join([part, *more]) if i == which else part for i, part in enumerate(parts)]
    return replaced(response, spoilt)


def _plain(sentence: str) -> str:
    return " ".join(words(sentence)).lower()
