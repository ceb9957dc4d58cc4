"""The kinds of fault: what puts each into a text, and the check that finds it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from numpy.random import Generator

from grm_jax.data.real.constraints import keywords, layout, lengths, letters
from grm_jax.data.real.faults import (
    emptiness,
    ending,
    figures,
    final,
    operands,
    order,
    repetition,
    sums,
)
from grm_jax.data.real.finding import Query
from grm_jax.data.real.inspection import failed, inspect

Spoil = Callable[[Query, str, Generator], str | None]
Propose = Callable[[str, str, Generator], letters.Proposal | None]

SPOILING: dict[str, Spoil] = {
    "cut": ending.spoil,
    "shuffled": order.spoil,
    "repeated": repetition.spoil,
    "empty": emptiness.spoil,
    "misquoted": figures.spoil,
    "miscounted": sums.spoil,
    "misread": operands.spoil,
    "wrong_final": final.spoil,
}
# These two take other texts: an answer to another prompt, and a wrong one to this.
OFF_TOPIC, WRONG_SOLUTION = "off_topic", "wrong_solution"
CHECKED_BY = {
    "cut": "ending",
    "shuffled": "order",
    "repeated": "repetition",
    "empty": "emptiness",
    "misquoted": "figures",
    "miscounted": "sums",
    "misread": "operands",
    "wrong_final": "answer",
    OFF_TOPIC: "topic",
    WRONG_SOLUTION: "answer",
}
CONSTRAINTS: dict[str, Propose] = {
    "lowercase": letters.lowercase,
    "uppercase": letters.uppercase,
    "no_commas": letters.no_commas,
    "at_most": lengths.at_most,
    "at_least": lengths.at_least,
    "sentences": lengths.sentence_count,
    "paragraphs": lengths.paragraph_count,
    "bullets": lengths.bullet_count,
    "include": keywords.include,
    "exclude": keywords.exclude,
    "end_phrase": layout.end_phrase,
    "start_phrase": layout.start_phrase,
    "title": layout.title,
    "in_quotes": layout.in_quotes,
    "in_json": layout.in_json,
}
# Beside a first response with a fault there may be others with one of these.
BESIDE = ("cut", OFF_TOPIC, "repeated", "shuffled")
BESIDE_PROBLEM = ("cut", OFF_TOPIC, "repeated", "misread", "miscounted", "wrong_final")
# What else follows, in a problem, from another fault: no answer after a cut, for example.
FOLLOWS = {"operands", "sums", "answer"}
# Kinds of which one has the longer bad response and the other the shorter: balanced together.
TOGETHER = {"at_most": "words", "at_least": "words", "include": "keyword", "exclude": "keyword"}
EMPTY_SHARE = 0.1  # of prompts
SLACK = 8  # by how much one direction of length may be ahead of the other


def kinds_to_try(is_problem: bool, rng: Generator) -> Iterator[str]:
    """The kinds for one prompt: first those that few prompts allow, then two that its sort of
    prompt alone has for each that all have."""
    if rng.random() < EMPTY_SHARE:
        yield "empty"
    shared = ["cut", OFF_TOPIC, "repeated"]
    if is_problem:
        yield WRONG_SOLUTION
        own = ["misread", "miscounted", "wrong_final"]
    else:
        yield from ("misquoted", "shuffled")
        own = list(CONSTRAINTS)
    own = [own[i] for i in rng.permutation(len(own))]
    shared = [shared[i] for i in rng.permutation(len(shared))]
    while own or shared:
        yield from own[:2]
        yield from shared[:1]
        own, shared = own[2:], shared[1:]


def has_fault(kind: str, query: Query, text: str) -> bool:
    """Whether a check finds the fault of this kind in a text, and none finds another but what
    follows from it."""
    check = "constraint" if kind in CONSTRAINTS else CHECKED_BY[kind]
    wrong = failed(inspect(query, text))
    return check in wrong and wrong <= {check, *(FOLLOWS if query.gold is not None else ())}


def is_sound(query: Query, text: str) -> bool:
    """Whether no check finds a fault, and one can tell that the text is on topic and whole."""
    findings = inspect(query, text)
    told = {one.check for one in findings}
    return not failed(findings) and "topic" in told and bool(told & {"ending", "answer"})


class Quota:
    """How many items there are of each kind, and how many with a longer bad response.

    Without it the shorter response would nearly always be the cut one, and length would judge.
    """

    def __init__(self, most: int):
        self.most, self.made = most, Counter[str]()
        self._ahead: Counter[str] = Counter()

    def is_full(self, kind: str) -> bool:
        """Whether there are enough of a kind; 0 is no limit."""
        return bool(self.most) and self.made[kind] >= self.most

    def wants_longer(self, kind: str) -> bool:
        """Whether the next bad response should be the longer one."""
        return self._ahead[TOGETHER.get(kind, kind)] <= 0

    def refuses(self, kind: str, longer: int) -> bool:
        """Whether one direction is too far ahead; longer is 1, -1, or 0 for equal lengths."""
        return kind != "empty" and longer * self._ahead[TOGETHER.get(kind, kind)] > SLACK

    def take(self, kind: str, longer: int) -> None:
        """Counts an item."""
        self.made[kind] += 1
        self._ahead[TOGETHER.get(kind, kind)] += longer
