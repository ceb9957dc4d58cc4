"""A lane: the host's side of the part of a bank that lives on one device, or on one group of
devices of a mesh. Which prompt is in which row, which samples wait or are on their way.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from grm_jax.sampling.request import Request
from grm_jax.sampling.state import Queue


class Front(NamedTuple):
    """The first tokens of a prompt, or all of it."""

    tokens: bytes
    length: int
    whole: bool


@dataclass
class Row:
    """A place for a prompt: what is in it, and how many of its samples are not done."""

    lane: int
    number: int
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    fronts: list[Front] = field(default_factory=list)
    open: int = 0


@dataclass
class Sample:
    """A sample on its way: where it is, and what of it has come back."""

    handle: int
    request: Request[Any]
    number: int
    row: Row
    place: int
    tokens: list[np.ndarray] = field(default_factory=list)
    logprobs: list[np.ndarray] = field(default_factory=list)
    length: int = 0


@dataclass
class Lane:
    """A lane's rows, and what was put into its queue.

    Attributes:
        rows: all that there may be, those that nobody reads first.
        spare: how many these are.
        piece: tokens of a prompt that are prefilled at a time.
        window: the longest prompt of which no layer forgets the front.
        places: samples of a prompt that share its row.
        samples: those on their way, by the number of their entry in the queue.
        pieces: rows, and from which token on a piece of their prompt is to be prefilled.
        tail: how many entries the queue has had.
    """

    number: int
    rows: list[Row]
    spare: int
    queue: Queue
    piece: int
    window: int
    places: int
    free: list[Row] = field(default_factory=list)
    samples: dict[int, Sample] = field(default_factory=dict)
    pieces: collections.deque[tuple[Row, int]] = field(default_factory=collections.deque)
    tail: int = 0
    _there: int = 0
    _holders: dict[Front, set[int]] = field(default_factory=dict)

    def make_room(self, count: int) -> None:
        """From now on there is room for so many prompts."""
        self.free += self.rows[self.spare + self._there : self.spare + count]
        self._there = count

    @property
    def taken(self) -> int:
        """Rows that hold the prompt of a sample on its way."""
        return self._there - len(self.free)

    def find(self, fronts: list[Front]) -> tuple[int, Row | None]:
        """How many tokens of a prompt need not be prefilled, and the row that has them; `fronts` is
        as `fronts_of` gives it.

        All of an equal prompt; of another one whole pieces, and never the last token, whose state
        the first new one is drawn from.
        """
        for front in reversed(fronts):
            rows = self._holders.get(front)
            if rows and (front.whole or front.length < fronts[-1].length):
                return front.length, self.rows[min(rows)]
        return 0, None

    def take(self, source: Row | None) -> Row:
        """A free row for a prompt that has something in common with that of `source`: this one, if
        nobody needs it; or that which has been free for longest."""
        mine = source is not None and source.open == 0
        row = source if mine else self.free[0]
        assert row is not None
        self.free.remove(row)
        return row

    def hold(self, row: Row, tokens: np.ndarray, fronts: list[Front], shared: int) -> None:
        """Notes that a row holds this prompt, of which the first `shared` tokens are there."""
        for front in row.fronts:
            self._holders[front].discard(row.number)
            if not self._holders[front]:
                del self._holders[front]
        row.tokens = tokens
        row.fronts = fronts if len(tokens) <= self.window else fronts[-1:]
        for front in row.fronts:
            self._holders.setdefault(front, set()).add(row.number)
        self.pieces.extend((row, at) for at in range(shared, len(tokens), self.piece))

    def enqueue(self, sample: Sample) -> None:
        """Puts a sample at the end of the queue."""
        queue, index = self.queue, self.tail % len(self.queue.row)
        queue.row[index], queue.place[index] = sample.row.number, sample.place
        queue.item[index], queue.sample[index] = sample.request.item, sample.number
        queue.wanted[index] = True
        queue.kept[sample.row.number * self.places + sample.place] = True
        self.samples[self.tail] = sample
        self.tail += 1
        sample.row.open += 1

    def give_up(self, handle: int) -> list[Row]:
        """Lets go of the samples of a request; the rows that they had, once for each."""
        given_up = [entry for entry, sample in self.samples.items() if sample.handle == handle]
        rows = []
        for entry in given_up:
            sample = self.samples.pop(entry)
            self.queue.wanted[entry % len(self.queue.wanted)] = False
            self.queue.kept[sample.row.number * self.places + sample.place] = False
            rows.append(sample.row)
        return rows

    def leave(self, row: Row) -> None:
        """One sample of a row is done."""
        row.open -= 1
        if row.open == 0:
            self.free.append(row)


def fronts_of(tokens: np.ndarray, piece: int) -> list[Front]:
    """What another prompt may have in common with this one: its first pieces, and all of it."""
    ends = range(piece, len(tokens) + 1, piece)
    fronts = [Front(tokens[:end].tobytes(), end, whole=False) for end in ends]
    return [*fronts, Front(tokens.tobytes(), len(tokens), whole=True)]


def new_lane(number: int, spare: int, rows: int, piece: int, window: int, places: int) -> Lane:
    """A lane without room for prompts, of which there may be `rows` at most. Its queue holds as
    many samples as they have places, so that no entry is overwritten before it was taken."""
    entries, seats = rows * places, (spare + rows) * places

    def of(dtype: Any, count: int = entries) -> np.ndarray:
        return np.zeros(count, dtype)

    queue = Queue(
        of(np.int32), of(np.int32), of(np.uint32), of(np.uint32), of(bool), of(bool, seats), 0
    )
    kept = [Row(number, row) for row in range(spare + rows)]
    return Lane(number, kept, spare, queue, piece, window, places)
