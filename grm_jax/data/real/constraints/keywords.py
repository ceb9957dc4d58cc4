"""A word that must or must not be used."""

from __future__ import annotations

import re
from functools import partial

from numpy.random import Generator

from grm_jax.data.real.constraints.letters import Proposal
from grm_jax.data.real.finding import Constraint
from grm_jax.data.real.sentences import content_words, quoted, sentences

WITH = ('Use the word "{}".', 'Include the word "{}" in your answer.')
WITHOUT = ('Do not use the word "{}".', 'Your answer must not contain the word "{}".')


def include(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A word that the good text has and the other has not, perhaps for want of a sentence."""
    word, other = _only_in(good, bad, rng)
    if word is None:
        return None
    wish = WITH[int(rng.integers(2))].format(word)
    return Constraint("include", wish, partial(_has, word=word)), good, other


def exclude(good: str, bad: str, rng: Generator) -> Proposal | None:
    """A word that the other text has and the good one has not, perhaps for want of a sentence."""
    word, other = _only_in(bad, good, rng)
    if word is None:
        return None
    wish = WITHOUT[int(rng.integers(2))].format(word)
    return Constraint("exclude", wish, partial(_lacks, word=word)), other, bad


def _only_in(text: str, other: str, rng: Generator) -> tuple[str | None, str]:
    """A word of the text, and the other without the sentences that have it."""
    found = [word.lower() for word in content_words(text).values() if len(word) >= 5]
    if not found:
        return None, other
    word = found[int(rng.integers(len(found)))]
    # The first sentence stays: what follows leans on it.
    parts = sentences(other)
    kept = [part for i, part in enumerate(parts) if not _place(part, word) or i == 0]
    if len(kept) == len(parts):
        return (word, other) if not _place(other, word) else (None, other)
    if "\n" in other.strip() or len(kept) < 2 or _place(parts[0], word):
        return None, other
    return word, " ".join(kept)


def _place(text: str, word: str) -> re.Match[str] | None:
    """The word with a word on either side."""
    return re.search(rf"(?:\S+\s+)?[^\w\s]*\b{re.escape(word)}\b(?:\s+\S+)?", text, re.IGNORECASE)


def _has(text: str, word: str) -> tuple[bool, tuple[str, ...]]:
    place = _place(text, word)
    if place:
        told = quoted(place[0])
        return True, (f"has the word {quoted(word)}, in {told}", f"uses {quoted(word)}: {told}")
    return False, (f"lacks the word {quoted(word)}", f"does not use {quoted(word)}")


def _lacks(text: str, word: str) -> tuple[bool, tuple[str, ...]]:
    place = _place(text, word)
    if not place:
        return True, (f"does without {quoted(word)}", f"avoids the word {quoted(word)}")
    told = quoted(place[0])
    return False, (f"uses the forbidden word, in {told}", f"has {quoted(word)}, in {told}")
