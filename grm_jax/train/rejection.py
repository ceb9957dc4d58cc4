"""Rejective sampling: which judgments of an item to learn from, and why not from the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from grm_jax.judging.judgment import Judgment
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example

Outcome = Literal["chosen", "too_easy", "tied", "wrong", "unparsable"]


@dataclass(frozen=True)
class Trajectory:
    """One judgment of a labelled Example, and what became of it."""

    example: Example
    judgment: Judgment
    hinted: bool
    outcome: Outcome


def reject(
    example: Example, plain: tuple[Judgment, ...], hinted: tuple[Judgment, ...]
) -> Iterator[Trajectory]:
    """Every judgment of an item with its outcome; the rules of the paper's section on RFT.

    A judgment that is wrong by equation 10 is dropped (`unparsable`: it has no scores; `tied`: the
    best response shares the highest score; `wrong`: another response is ahead). If all plain ones
    are right, the item is `too_easy`, and its right judgments are dropped too, hinted ones
    included. What is left is `chosen`.
    """
    assert example.label is not None
    easy = bool(plain) and all(is_correct(j.scores, example.label) for j in plain)
    for judgments, hint in ((plain, False), (hinted, True)):
        for judgment in judgments:
            yield Trajectory(example, judgment, hint, _outcome(judgment, example.label, easy))


def _outcome(judgment: Judgment, label: int, easy: bool) -> Outcome:
    scores = judgment.scores
    if scores is None:
        return "unparsable"
    if is_correct(scores, label):
        return "too_easy" if easy else "chosen"
    return "tied" if len(scores) > 1 and scores[label] == max(scores) else "wrong"
