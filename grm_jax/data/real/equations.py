"""Sums written out in a text, such as "16 - 3 - 4 = 9": what they say, and what they make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NUMBER = r"\$?\d[\d,]*(?:\.\d+)?%?"
SUM = re.compile(
    rf"(?<![\w.,$%])({NUMBER}(?:\s*[-+*/x×÷]\s*{NUMBER})+)\s*=\s*({NUMBER})"
    r"(?!\s*[-+*/x×÷=(]\s*[\d$(])(?![\d,.]*\d)"
)
OPERATOR = re.compile(r"\s*([-+*/x×÷])\s*")
# Before which a sum is only the end of a longer one.
WITHIN = re.compile(r"(?:[-+*/×÷(=]|\sx)\s*$")
CLOSE = 0.006  # by which a rounded result may be off, as a share of it


@dataclass(frozen=True)
class Equation:
    """A sum in a text.

    Attributes:
        text: as it stands.
        start, end: where it stands.
        operands, operators: of its left side, as they stand.
        result: its right side, as it stands.
    """

    text: str
    start: int
    end: int
    operands: tuple[str, ...]
    operators: tuple[str, ...]
    result: str

    @property
    def value(self) -> float | None:
        """What the left side makes; None where it divides by zero."""
        return computed([number(text) for text in self.operands], self.operators)

    @property
    def holds(self) -> bool:
        """Whether that is the right side, up to rounding."""
        value, said = self.value, number(self.result)
        return value is not None and abs(value - said) <= CLOSE * max(1.0, abs(value))


@lru_cache(4096)
def equations(text: str) -> tuple[Equation, ...]:
    """The sums of a text in the order in which they stand; parts of longer ones are left out."""
    found = []
    for match in SUM.finditer(text):
        if WITHIN.search(text[: match.start()]):
            continue
        parts = OPERATOR.split(match[1])
        found.append(
            Equation(
                match[0],
                match.start(),
                match.end(),
                tuple(parts[::2]),
                tuple(parts[1::2]),
                match[2],
            )
        )
    return tuple(found)


def number(text: str) -> float:
    """The value of a number as it stands; 20% is 0.2."""
    value = float(text.strip("$%").replace(",", ""))
    return value / 100 if text.endswith("%") else value


def computed(values: list[float], operators: tuple[str, ...]) -> float | None:
    """The value of a sum, products before sums; None where it divides by zero."""
    terms, signs = [values[0]], [1]
    for operator, value in zip(operators, values[1:], strict=True):
        if operator in "+-":
            terms.append(value)
            signs.append(1 if operator == "+" else -1)
        elif operator in "/÷":
            if not value:
                return None
            terms[-1] /= value
        else:
            terms[-1] *= value
    return sum(sign * term for sign, term in zip(signs, terms, strict=True))


def written(value: float) -> str | None:
    """The value with at most two decimals; None where it has more."""
    if abs(value - round(value, 2)) > 1e-9:
        return None
    return f"{value:.2f}".rstrip("0").rstrip(".")
