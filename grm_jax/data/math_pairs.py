"""Pairs of a right and a wrong answer to a problem whose answer is known: labelled Examples.

As the paper does for MATH: answers are sampled, and compared with the gold answer by a rule.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grm_jax.data.math_answers import final_answer, same_answer
from grm_jax.randomness import math_stream

PROBLEMS = ("problem", "question", "prompt", "query", "instruction")
SOLUTIONS = ("solution", "ground_truth", "reference", "gt_cot", "answer")
GOLD = ("gold", "gt", "final_answer", "answer", *SOLUTIONS)
ANSWERS = ("answers", "responses", "completions", "response", "code")
KEPT = ("level", "type", "subject")
# The longest answer, in characters, that may stand without a solution.
LONGEST = 200


@dataclass(frozen=True)
class Problem:
    """A problem, its gold answer, and the solution that gives it, where the row has one.

    id: a hash of problem and gold answer. answers: those that the row holds already.
    """

    id: str
    text: str
    gold: str
    solution: str | None
    answers: tuple[str, ...] = ()
    meta: Mapping[str, Any] | None = None


def to_problem(row: Any) -> Problem:
    """A row of MATH, GSM8K or another such set, perhaps with answers of models in it.

    Raises:
        ValueError: what the row lacks, in a sentence.
    """
    if not isinstance(row, Mapping):
        raise ValueError("the row is not an object with named columns")
    texts = {str(key): value for key, value in row.items() if isinstance(value, str | int)}
    text = next((str(texts[name]) for name in PROBLEMS if texts.get(name)), "")
    if not text.strip():
        raise ValueError(f"the row has no problem: one of {', '.join(PROBLEMS)} must hold its text")
    gold = next((found for name in GOLD if (found := _gold(name, texts.get(name)))), None)
    if gold is None:
        raise ValueError(
            "the row has no gold answer: give a solution that ends in \\boxed{} (or a last line "
            f"after ####), or the answer itself, in one of {', '.join(dict.fromkeys(GOLD))}"
        )
    key = hashlib.sha256("\0".join((text, gold)).encode(errors="replace")).hexdigest()[:16]
    solution = next((str(texts[name]) for name in SOLUTIONS if texts.get(name)), None)
    kept = {name: row[name] for name in KEPT if row.get(name) is not None}
    return Problem(key, text, gold, solution, _answers(row), kept)


def _gold(name: str, value: str | int | None) -> str | None:
    """The gold answer in a column: that of a solution, or the whole of a short text."""
    if value is None or isinstance(value, bool):
        return None
    text = str(value).strip()
    whole = name not in ("solution", "gt_cot") and "\n" not in text and len(text) <= LONGEST
    return final_answer(text) or (text if whole and text else None)


def _answers(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The answers in a column that is a list of texts, or in columns of {solution}."""
    for name in ANSWERS:
        value = row.get(name)
        if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
            return tuple(value)
    found = [value.get("solution") for value in row.values() if isinstance(value, Mapping)]
    return tuple(text for text in found if isinstance(text, str))


def pairs_of(
    problem: Problem, answers: Sequence[str], most: int, seed: int, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Up to `most` rows {prompt, chosen, rejected}, each with a right and a wrong answer.

    An answer is in one pair at most; the seed and the problem decide in which. A text without a
    final answer is neither right nor wrong, and left out. `counts` counts all.
    """
    sides: dict[str, list[tuple[str, str | None]]] = {"right": [], "wrong": []}
    texts = dict.fromkeys(answers)
    counts["the same text again"] += len(answers) - len(texts)
    for text in texts:
        answer = final_answer(text)
        if answer is None:
            counts["no final answer"] += 1
            continue
        same = same_answer(problem.gold, answer)
        kind = "not comparable" if same is None else "right" if same else "wrong"
        counts[kind] += 1
        if kind in sides:
            sides[kind].append((text, answer))
    rng = math_stream(seed, int(problem.id, 16))
    drawn = [[side[i] for i in rng.permutation(len(side))] for side in sides.values()]
    for number, (good, bad) in enumerate(zip(*drawn, strict=False)):
        if number == most:
            return
        yield {
            "id": f"{problem.id}-{number}" if number else problem.id,
            "prompt": problem.text,
            "chosen": good[0],
            "rejected": bad[0],
            "chosen_answer": good[1],
            "rejected_answer": bad[1],
            "gold": problem.gold,
            **({} if problem.solution is None else {"reference": problem.solution}),
            **(problem.meta or {}),
        }
