"""Miscounted: a sum in the response with a wrong result."""

from __future__ import annotations

from numpy.random import Generator

from grm_jax.data.real.equations import equations, written
from grm_jax.data.real.faults.figures import other_number
from grm_jax.data.real.finding import Finding, Query


def check(query: Query, response: str) -> Finding | None:
    """Whether every sum that is written out holds; None where there is none."""
    sums = equations(response)
    if not sums:
        return None
    wrong = next((one for one in sums if not one.holds), None)
    if wrong is None:
        last = sums[-1].text
        return Finding("sums", True, (f"writes {last}, which holds", f"has {last}, a right sum"))
    value = wrong.value
    made = "no number" if value is None else written(round(value, 2))
    says = (
        f"writes {wrong.text}, which makes {made}",
        f"has {wrong.text}, which should be {made}",
    )
    return Finding("sums", False, says)


def spoil(query: Query, response: str, rng: Generator) -> str | None:
    """The response with another result in one of its sums, and nothing else changed."""
    sums = equations(response)
    if not sums:
        return None
    one = sums[int(rng.integers(len(sums)))]
    digits = one.result.strip("$%")
    other = other_number(digits, rng, f"{query.topic} {response}")
    if other is None:
        return None
    at = one.start + one.text.rindex(digits)
    return response[:at] + other + response[at + len(digits) :]
