"""Empty: a response in which there is nothing to judge."""

from __future__ import annotations

from numpy.random import Generator

from grm_jax.data.real.finding import Finding, Query
from grm_jax.text.degenerate import degeneracy

NOTHING = ("", " ", "\n\n", "\u200b", "   \n")


def check(query: Query, response: str) -> Finding | None:
    """The finding for an empty response; None for any other."""
    why = degeneracy(response)
    if why is None:
        return None
    says = {
        "empty": ("is empty", "has no text at all"),
        "blank": ("is blank: spaces, and no word", "holds nothing but blanks"),
    }
    return Finding("emptiness", False, says.get(why, ("shows no text", "has no visible character")))


def spoil(query: Query, response: str, rng: Generator) -> str:
    """Nothing in place of the response."""
    return NOTHING[int(rng.integers(len(NOTHING)))]
