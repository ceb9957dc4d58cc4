"""Wrong: a final answer that is not the right one."""

from __future__ import annotations

from numpy.random import Generator

from grm_jax.data.math_answers import final_answer
from grm_jax.data.real.faults.figures import other_number
from grm_jax.data.real.finding import Finding, Query


def check(query: Query, response: str) -> Finding | None:
    """Whether the final answer is the gold one; None for what is no problem."""
    if query.gold is None:
        return None
    said = final_answer(response)
    if said is None:
        return Finding("answer", False, ("gives no final answer", "comes to no final answer"))
    if plain_number(said) == plain_number(query.gold):
        says = (f"answers {said}, which is right", f"comes to {said}, the right answer")
        return Finding("answer", True, says)
    says = (f"answers {said}, not {query.gold}", f"comes to {said}, and {query.gold} is right")
    return Finding("answer", False, says)


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response with another number as its final answer, against its own working."""
    said = final_answer(response)
    if said is None or plain_number(said) is None:
        return None
    digits = said.strip("$")
    other = other_number(digits, rng, f"{query.topic} {response}")
    at = response.rindex(digits)
    return None if other is None else response[:at] + other + response[at + len(digits) :]


def plain_number(text: str) -> float | None:
    """The value of a text that is a number and nothing else; None for any other."""
    try:
        return float(text.strip().strip("$").removesuffix(".").replace(",", ""))
    except ValueError:
        return None
