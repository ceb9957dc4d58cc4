"""The questions of the synthetic world: three kinds whose answer is worked out in steps.

Every step is a bijection of what the step before left, so a slip anywhere changes the answer:
whoever wants the answer needs every step, and whoever checks a step needs only that step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from numpy.random import Generator

CUPS = "ABCD"
SWAPS = tuple("".join(pair) for pair in combinations(CUPS, 2))
MAX_SUM = 89  # so that an answer has two digits, ten too many or too few included
MULTIPLIERS = (3, 7, 9)  # units modulo ten: other factors would forget the steps before them


class Question(Protocol):
    """Something to ask, with its working."""

    @property
    def kind(self) -> str:
        """Name of the kind: `sum`, `chain` or `cups`."""
        ...

    @property
    def text(self) -> str:
        """The question in words, without any ask."""
        ...

    @property
    def slips(self) -> int:
        """How many different typical slips the working allows."""
        ...

    def work(self, slip: int | None = None) -> tuple[str, str]:
        """The worked steps and the answer they lead to.

        With `slip` (0 .. slips - 1) one step goes wrong in a typical way and all that comes after
        follows from it, so the answer is wrong too.
        """
        ...


@dataclass(frozen=True)
class Sum:
    """`a + b` for two-digit numbers up to `MAX_SUM`, worked as ones, carry and tens."""

    a: int
    b: int
    kind = "sum"
    slips = 4

    @property
    def text(self) -> str:
        return f"What is {self.a}+{self.b}?"

    def work(self, slip: int | None = None) -> tuple[str, str]:
        """Slips: 0 and 1 miss the ones by one, 2 forgets or invents the carry, 3 adds a ten."""
        (tens_a, a), (tens_b, b) = divmod(self.a, 10), divmod(self.b, 10)
        ones = a + b
        if slip == 0 or (slip == 1 and ones == 0):
            ones += 1
        elif slip == 1:
            ones -= 1
        carry = (ones >= 10) != (slip == 2)
        tens = tens_a + tens_b + carry + (slip == 3)
        steps = f"{a}+{b}={ones} {tens_a}+{tens_b}{'+1' if carry else ''}={tens}"
        return steps, str(10 * tens + ones % 10)


@dataclass(frozen=True)
class Chain:
    """Operations on one digit modulo ten, each on the result of the one before."""

    start: int
    operations: tuple[tuple[str, int], ...]
    kind = "chain"

    @property
    def text(self) -> str:
        operations = " ".join(f"{sign}{digit}" for sign, digit in self.operations)
        return f"Modulo ten, start at {self.start}: {operations}?"

    @property
    def slips(self) -> int:
        return 2 * len(self.operations)

    def work(self, slip: int | None = None) -> tuple[str, str]:
        """Slips: step `slip // 2` comes out one too high (even) or one too low (odd)."""
        value, steps = self.start, str(self.start)
        for step, (sign, digit) in enumerate(self.operations):
            value = {"+": value + digit, "-": value - digit, "*": value * digit}[sign]
            if slip is not None and slip // 2 == step:
                value += 1 if slip % 2 == 0 else -1
            value %= 10
            steps += f" {sign}{digit}={value}"
        return steps, str(value)


@dataclass(frozen=True)
class Cups:
    """A ball under one of four cups, and pairs of cups that change places."""

    start: str
    swaps: tuple[str, ...]
    kind = "cups"

    @property
    def text(self) -> str:
        return f"Ball under {self.start}. Swap {' '.join(self.swaps)}. Where is it?"

    @property
    def slips(self) -> int:
        return len(self.swaps)

    def work(self, slip: int | None = None) -> tuple[str, str]:
        """Slips: at step `slip` a ball that should move stays, or one that should stay moves."""
        ball, steps = self.start, self.start
        for step, (first, second) in enumerate(self.swaps):
            moved = {first: second, second: first}
            if slip != step:
                ball = moved.get(ball, ball)
            elif ball not in moved:
                ball = first
            steps += f" {first}{second}={ball}"
        return steps, ball


def draw_question(rng: Generator) -> Question:
    """A question at random: 30% sums, 40% chains and 30% cups of four to six steps."""
    kind = rng.random()
    if kind < 0.3:
        total = int(rng.integers(20, MAX_SUM + 1))
        a = int(rng.integers(10, total - 9))
        return Sum(a, total - a)
    steps = int(rng.integers(4, 7))
    if kind < 0.7:
        return Chain(int(rng.integers(10)), tuple(_draw_operation(rng) for _ in range(steps)))
    order = rng.integers(len(SWAPS), size=steps).tolist()
    return Cups(CUPS[rng.integers(len(CUPS))], tuple(SWAPS[i] for i in order))


def _draw_operation(rng: Generator) -> tuple[str, int]:
    sign = "+-*"[rng.integers(3)]
    digit = MULTIPLIERS[rng.integers(3)] if sign == "*" else rng.integers(1, 10)
    return sign, int(digit)
