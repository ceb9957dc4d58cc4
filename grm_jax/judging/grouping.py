"""Sequences that begin alike, in rows that hold their common prompt once.

A row is a prompt and one, two or four completions of it. Its lengths are few, so that few programs
are compiled: powers of two, or for a sequence by itself the finer steps of `bucket`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from grm_jax.bucket import SMALLEST, bucket

Tokens = tuple[int, ...]
GROUPS = (1, 2, 4)  # completions of a row


class Reading(NamedTuple):
    """A sequence to be read to its end: a prompt, which others may share, and what follows it."""

    prompt: Tokens
    completion: Tokens = ()

    @property
    def tokens(self) -> Tokens:
        return self.prompt + self.completion

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion)


class Shape(NamedTuple):
    """Of a row: tokens of its prompt, completions, tokens of each completion.

    A completion has one token more than is read: the one that the state of its last token predicts.
    """

    prompt: int
    group: int
    completion: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.group * self.completion


class Row(NamedTuple):
    """The readings of one row: one by itself, which is then all prompt, or several of a prompt."""

    shape: Shape
    readings: tuple[Reading, ...]


class Grouped(NamedTuple):
    """Rows of one shape [P, S], [P, S], [P, G, T], [P, G, T]: what `Model.group_hidden` takes."""

    prompts: np.ndarray
    prompt_positions: np.ndarray
    tokens: np.ndarray
    positions: np.ndarray


def rows(readings: Iterable[Reading], longest: int, groups: Sequence[int]) -> Iterator[Row]:
    """Each reading in a row, with others of its prompt where that takes fewer tokens.

    How a prompt's readings are cut into rows follows from them alone.

    Args:
        longest: tokens that a reading may have.
        groups: how many completions a row may have; 1 is one of them.
    """
    by_prompt: dict[Tokens, list[Reading]] = {}
    for reading in readings:
        by_prompt.setdefault(reading.prompt, []).append(reading)
    for several in by_prompt.values():
        yield from _cut(several, longest, groups)


def _cut(readings: list[Reading], longest: int, groups: Sequence[int]) -> tuple[Row, ...]:
    """The rows of one prompt's readings that take the fewest tokens: of neighbours by length."""
    readings = sorted(readings, key=lambda reading: reading.length)
    # The fewest tokens of the first n readings, and the rows that take them.
    best: list[tuple[int, tuple[Row, ...]]] = [(0, ())]
    for end in range(1, len(readings) + 1):
        options = []
        for group in groups:
            start = max(end - group, 0)
            if group == 1 or end - start > 1:
                shape = _shape(readings[end - 1], group, longest)
                tokens, cut = best[start]
                row = Row(shape, tuple(readings[start:end]))
                options.append((tokens + shape.tokens, (*cut, row)))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def _shape(reading: Reading, group: int, longest: int) -> Shape:
    """Of a row whose longest reading this is."""
    if group == 1:
        return Shape(bucket(reading.length + 1, longest + 1) - 1, 1, 1)
    return Shape(_doubled(len(reading.prompt)), group, _doubled(len(reading.completion) + 1))


def _doubled(length: int) -> int:
    """32, 64, 128 .."""
    return max(SMALLEST, 1 << (length - 1).bit_length())


def fill(shape: Shape, rows: Sequence[Row], size: int) -> Grouped:
    """Rows of one shape as arrays for so many of them."""
    s, g, t = shape
    grouped = Grouped(
        np.zeros((size, s), np.int32),
        np.full((size, s), -1, np.int32),
        np.zeros((size, g, t), np.int32),
        np.full((size, g, t), -1, np.int32),
    )
    grouped.prompt_positions[:, -1] = 0  # a row without anything is one padding token
    for place, row in enumerate(rows):
        readings = row.readings
        if g == 1:
            readings = (Reading(readings[0].tokens),)
        prompt = readings[0].prompt
        grouped.prompts[place, s - len(prompt) :] = prompt
        grouped.prompt_positions[place, s - len(prompt) :] = np.arange(len(prompt))
        for number, (_, completion) in enumerate(readings):
            own = slice(len(completion))
            grouped.tokens[place, number, own] = completion
            grouped.positions[place, number, own] = len(prompt) + np.arange(len(completion))
    return grouped
