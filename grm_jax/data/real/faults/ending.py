"""Cut off: a response that ends in the middle of a sentence."""

from __future__ import annotations

from numpy.random import Generator

from grm_jax.data.math_answers import final_answer
from grm_jax.data.real.finding import Finding, Query
from grm_jax.data.real.sentences import ending, quoted, sentences, spans

CLOSERS = "\"'”’)]}*_»>"
SHOWN = 2  # words
LEAST = 0.4  # of the text that is left
TRIES = 12


def check(query: Query, response: str) -> Finding | None:
    """Whether the last sentence is whole: it ends with a full stop or the like, or with a final
    answer. None where the end is of another kind, a symbol or code, and for a problem's final
    answer, which another check reads."""
    answers = final_answer(response) is not None
    if answers and query.gold is not None:
        return None
    told = quoted(ending(sentences(response)[-1], SHOWN))
    bare = response.rstrip().rstrip(CLOSERS)
    if answers or bare[-1:] in (".", "!", "?", "…"):
        says = (f"ends with {told}, which is whole", f"its last words are {told}: complete")
        return Finding("ending", True, says)
    if bare[-1:].isalnum() or bare[-1:] in (",", ";", ":", "(", "-", "–"):
        says = (f"ends with {told}, in a sentence", f"its last words are {told}: broken off")
        return Finding("ending", False, says)
    return None


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response, cut off in the middle of a sentence, and half of the time of a word."""
    inside = [(start, end) for start, end in spans(response) if end > LEAST * len(response)]
    for _ in range(TRIES if inside else 0):
        start, end = inside[int(rng.integers(len(inside)))]
        gaps = [i for i in range(start, end) if response[i].isspace() and i > LEAST * len(response)]
        if len(gaps) < 4:
            continue
        at = gaps[int(rng.integers(1, len(gaps) - 1))]
        word = response[at + 1 : end].split(maxsplit=1)[0]
        if rng.random() < 0.5 and len(word) >= 6 and word.isalpha():
            at += 1 + int(rng.integers(2, len(word) - 2))
        cut = response[:at]
        found = check(query, cut)
        if found is not None and not found.ok:
            return cut
    return None
