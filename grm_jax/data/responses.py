"""The responses of the synthetic world: an answer in one of four forms, or nothing at all.

A response scores `FLOOR` plus the weights of the criteria that it meets, for a judge who holds an
answer to be right. Nothing scores less than any answer does, whatever is asked and held.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

Criteria = tuple[tuple[str, int], ...]

LOWEST = 1
FLOOR = 2
WORDS = {
    "accuracy": ("wrong", "right"),
    "brevity": ("wordy", "brief"),
    "politeness": ("blunt", "polite"),
}
EMPTY_SHARE, BLANK_SHARE = 0.4, 0.3  # of nothings; the others hold what does not show
BLANK = "  \n\n\t\r\u00a0\u2003\u3000"
UNSEEN = (
    "\0\x01\x07\b\x1b\x7f\u00ad\u061c\u200b\u200b\u200c\u200d\u200e\u2060\u2063\u3164\ufe0f\ufeff"
)


@dataclass(frozen=True)
class Response:
    """An answer in a form: four forms from two properties."""

    answer: str
    brief: bool
    polite: bool

    @property
    def text(self) -> str:
        if self.brief:
            return f"Gladly: {self.answer}" if self.polite else self.answer
        thanks = "Thank you for asking! " if self.polite else ""
        return f"{thanks}I have thought about it and it must be {self.answer}"

    def meets(self, answer: str) -> dict[str, bool]:
        """Which criteria it meets for a judge who holds `answer` to be right."""
        return {
            "accuracy": self.answer == answer,
            "brevity": self.brief,
            "politeness": self.polite,
        }

    def score(self, criteria: Criteria, answer: str) -> int:
        """Its score under these criteria."""
        met = self.meets(answer)
        return FLOOR + sum(weight for name, weight in criteria if met[name])

    def judged(self, criteria: Criteria, answer: str) -> str:
        """What a critique says of it."""
        met = self.meets(answer)
        words = ", ".join(WORDS[name][met[name]] for name, _ in criteria)
        return f"{compared(self.answer, answer)}: {words}"


@dataclass(frozen=True)
class Nothing:
    """A response without an answer or anything else to judge."""

    text: str
    answer = ""

    def score(self, criteria: Criteria, answer: str) -> int:
        """The lowest there is."""
        return LOWEST

    def judged(self, criteria: Criteria, answer: str) -> str:
        """What a critique says of it."""
        return "nothing to judge"


def compared(answer: str, right: str) -> str:
    """Two answers of the same length held against each other, digit by digit.

    Whole numbers side by side were more than the small model learned to compare: it took two sums
    that end alike for the same.
    """
    return ", ".join(f"{one} against {other}" for one, other in zip(answer, right, strict=True))


def draw_nothing(rng: Generator) -> Nothing:
    """Nothing at random: empty, some blanks, or some characters that do not show."""
    kind, count = rng.random(), int(rng.integers(1, 5))
    if kind < EMPTY_SHARE:
        return Nothing("")
    characters = BLANK if kind < EMPTY_SHARE + BLANK_SHARE else UNSEEN
    if rng.random() < 0.5:
        return Nothing(characters[rng.integers(len(characters))] * count)
    return Nothing("".join(characters[i] for i in rng.integers(len(characters), size=count)))
