"""Completions and their prompts as Examples: the completions of one prompt in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from grm_jax.data.columns import as_text
from grm_jax.judging.judgment import Refusal
from grm_jax.rewards.turns import Prompt, response_text
from grm_jax.text.messages import Example, Message, as_messages

# Prompt, reference and principles: what the completions of a group have in common.
Shown = tuple[tuple[Message, ...], str | None, str | None]


@dataclass(frozen=True)
class Row:
    """A completion and its prompt, as text or as messages, and what else the judge is shown."""

    prompt: Prompt
    completion: Any
    reference: Any = None
    principles: Any = None


@dataclass(frozen=True)
class Group:
    """An Example, or why there is none, and the numbers of the rows that it is made of."""

    example: Example | Refusal
    rows: tuple[int, ...]


def shown(row: Row) -> Shown:
    """What the row has in common with the others of its group.

    Raises:
        ValueError: the prompt is none.
    """
    return as_messages(row.prompt), as_text(row.reference), as_text(row.principles)


def grouped(rows: Mapping[int, Row], size: int) -> list[Group]:
    """The rows of one prompt together, in their order, in groups that differ by one at most.

    Args:
        rows: by their numbers.
        size: the most responses that an Example may have.
    """
    groups: list[Group] = []
    together: dict[Shown, list[tuple[int, str]]] = {}
    for number, row in rows.items():
        try:
            key = shown(row)
            response = response_text(row.completion)
        except ValueError as error:
            groups.append(Group(Refusal("", str(error)), (number,)))
            continue
        together.setdefault(key, []).append((number, response))
    for key, members in together.items():
        parts = -(-len(members) // size)
        ends = [len(members) * part // parts for part in range(parts + 1)]
        for start, end in pairwise(ends):
            numbers, responses = zip(*members[start:end], strict=True)
            groups.append(Group(_example(key, responses), numbers))
    return groups


def _example(key: Shown, responses: Sequence[str]) -> Example | Refusal:
    prompt, reference, principles = key
    try:
        return Example(prompt, responses, reference=reference, principles=principles)
    except ValueError as error:
        return Refusal("", str(error))
