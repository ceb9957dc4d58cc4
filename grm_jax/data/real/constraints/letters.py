"""Capital letters, small letters, and no commas."""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from grm_jax.data.real.finding import Constraint
from grm_jax.data.real.sentences import WORD, beginning, ending, quoted

Proposal = tuple[Constraint, str, str]

SMALL = ("Write in lowercase letters only.", "Use no capital letters at all.")
CAPITAL = ("Write in capital letters only.", "Your entire answer should be in all capital letters.")
COMMAS = ("Do not use any commas.", "Your answer must not contain a comma.")


def lowercase(good: str, bad: str, rng: Generator) -> Proposal | None:
    """Small letters only; the other text has capitals, or nothing else."""
    spoilt = bad.upper() if rng.random() < 0.25 else bad
    if spoilt == spoilt.lower() or good == good.lower():
        return None
    constraint = Constraint("lowercase", SMALL[int(rng.integers(2))], _no_capital)
    return constraint, good.lower(), spoilt


def uppercase(good: str, bad: str, rng: Generator) -> Proposal | None:
    """Capital letters only; the other text has small ones, or nothing else."""
    spoilt = bad.lower() if rng.random() < 0.25 else bad
    if spoilt == spoilt.upper() or "ß" in good:
        return None
    constraint = Constraint("uppercase", CAPITAL[int(rng.integers(2))], _no_small)
    return constraint, good.upper(), spoilt


def no_commas(good: str, bad: str, rng: Generator) -> Proposal | None:
    """No commas; the other text has some."""
    if good.count(",") < 2 or "," not in bad or any(_grouped(text) for text in (good, bad)):
        return None
    constraint = Constraint("no_commas", COMMAS[int(rng.integers(2))], _no_comma)
    return constraint, good.replace(",", ""), bad


def _grouped(text: str) -> bool:
    """Whether a comma stands inside a number."""
    return any(
        text[i - 1 : i].isdigit() and text[i + 1 : i + 2].isdigit()
        for i, char in enumerate(text)
        if char == ","
    )


def _no_capital(text: str) -> tuple[bool, tuple[str, ...]]:
    told, kept = _shown(text, str.lower)
    if kept:
        return True, (f"reads {told}, in small letters", f"writes {told}: lowercase")
    return False, (f"reads {told}, with capitals", f"writes {told}: not lowercase")


def _no_small(text: str) -> tuple[bool, tuple[str, ...]]:
    told, kept = _shown(text, str.upper)
    if kept:
        return True, (f"reads {told}, in capitals", f"writes {told}: all capitals")
    return False, (f"reads {told}, with small letters", f"writes {told}: not all capitals")


def _shown(text: str, case: Callable[[str], str]) -> tuple[str, bool]:
    """The first words in another case, or of the text where there are none; whether it is so."""
    places = (found for found in WORD.finditer(text) if found[0] != case(found[0]))
    first = next(places, None)
    return quoted(beginning(text if first is None else text[first.start() :], 3)), first is None


def _no_comma(text: str) -> tuple[bool, tuple[str, ...]]:
    before, comma, _ = text.partition(",")
    if not comma:
        return True, ("has no comma", "keeps clear of commas")
    told = quoted(f"{ending(before, 2)},")
    return False, (f"has a comma, in {told}", f"breaks the rule on commas at {told}")
