"""A bank: some of an engine's slots, and the rows of their prompts, in arrays of their own.

Its programs run in the order in which they are started, beside those of other banks.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from grm_jax.models import cache as kv
from grm_jax.models import decoding
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.processes import everywhere, spread
from grm_jax.sampling import programs
from grm_jax.sampling.lanes import Front, Lane, Row, Sample, new_lane
from grm_jax.sampling.request import Completion
from grm_jax.sampling.size import EngineSize
from grm_jax.sampling.state import Drawn, Queue
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import DECODE_RULES, spec_for

FEW_ROWS = 24  # for prompts, in a lane, at first

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Bank:
    """Slots that take samples from the queues of their lanes, and rows that prompts are prefilled
    into.

    Args:
        params: split into layers where there is no mesh.
        size: that of this bank, with every number given but `piece`.
        alone: False gives it a thread. What one thread starts on a CPU, XLA runs one by one.

    Attributes:
        lanes: the parts of it that lie on different devices of the mesh.
        width: slots of each lane.
        rows: how many prompts each lane has room for.
        unread: calls that were started and not read.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        *,
        stop_ids: tuple[int, ...],
        max_new_tokens: int,
        size: EngineSize,
        mesh: Mesh | None,
        alone: bool,
    ):
        self._model, self._params, self._mesh = model, params, mesh
        self._platform = programs.options_for(params, model.dtype)
        self._limit, self._stops = max_new_tokens, frozenset(stop_ids)
        self._stop_ids = jnp.asarray(stop_ids, jnp.int32)
        self._steps, self._places = size.steps, size.places
        self._longest = kv.in_blocks(model.config.max_position - max_new_tokens)
        self._length = min(kv.FIRST_LENGTH, self._longest)
        lanes = mesh.shape["data"] * mesh.shape["fsdp"] if mesh else 1
        self._most_rows = -(-size.prompts // lanes)
        self.rows = min(FEW_ROWS, self._most_rows)
        # Lanes prefill together; one that has nothing to do writes into row 0, which nobody reads.
        spare = int(lanes > 1)
        self._prompts = programs.new_prompts(model, lanes, spare + self.rows, self._length, mesh)
        self.width = size.slots // lanes
        self._slots = programs.new_slots(model, lanes, self.width, max_new_tokens, mesh)
        self.piece = size.piece or self._few_tokens()
        window = min(filter(None, model.spec.windows), default=self._longest)
        self.lanes = [
            new_lane(lane, spare, self._most_rows, self.piece, window, size.places)
            for lane in range(lanes)
        ]
        for lane in self.lanes:
            lane.make_room(self.rows)
        self.unread: collections.deque[Future[Drawn]] = collections.deque()
        self._released: list[Row] = []
        self._thread = _Here() if alone else ThreadPoolExecutor(1, "bank")
        self._last: Future[Any] = _Here().submit(lambda: None)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do and nothing to come."""
        return not (self.unread or self._unsent)

    @property
    def _unsent(self) -> bool:
        """Whether there is something that the devices should be told: of samples that are on their
        way, or of such as were given up."""
        return bool(self._released) or any(lane.samples for lane in self.lanes)

    def add_rows(self, wanted: int) -> None:
        """Makes room for so many prompts in each lane, or as many as there may be."""
        before = self.rows
        while self.rows < min(wanted, self._most_rows):
            self.rows = min(2 * self.rows, self._most_rows)
        if self.rows > before:
            self._then(self._add_rows, self.rows - before, self._length)
            for lane in self.lanes:
                lane.make_room(self.rows)

    def _add_rows(self, count: int, length: int) -> None:
        self._prompts = programs.with_more_rows(
            self._model, self._prompts, count, length, self._mesh
        )

    def settle(self, lane: Lane, tokens: np.ndarray, fronts: list[Front]) -> Row:
        """A row of the lane in which this prompt is, or is going to be."""
        if len(tokens) > self._length:
            self._lengthen(len(tokens))
        shared, source = lane.find(fronts)
        row = lane.take(source)
        if source is not None and row is not source:
            self._prefill()
            pairs = np.zeros((2, len(self.lanes)), np.int32)
            pairs[:, lane.number] = source.number, row.number
            self._then(self._copy, *self._place(*pairs))
        lane.hold(row, tokens, fronts, shared)
        return row

    def _copy(self, source: jax.Array, target: jax.Array) -> None:
        self._prompts = programs.COPY(self._prompts, source, target)

    def _lengthen(self, wanted: int) -> None:
        """Makes room for prompts of so many tokens in all rows."""
        self._prefill()
        before = self._length
        while self._length < wanted:
            self._length = min(2 * self._length, self._longest)
        self._then(self._add_positions, before, self._length)

    def _add_positions(self, before: int, length: int) -> None:
        self._prompts = programs.lengthened(self._model, self._prompts, before, length, self._mesh)

    def start(self, seed: int, strategy: Strategy) -> bool:
        """Starts what there is to prefill, and the next call; False: there is none."""
        self._prefill()
        if unsent := self._unsent:
            fields = [np.stack(parts) for parts in zip(*(x.queue for x in self.lanes), strict=True)]
            fields[-1] = np.array([lane.tail for lane in self.lanes], np.int32)
            queue = Queue(*self._place(*fields))
            self.unread.append(self._then(self._advance, queue, np.uint32(seed), strategy))
        for row in self._released:
            self.lanes[row.lane].leave(row)
        self._released.clear()
        return unsent

    def _prefill(self) -> None:
        """Starts what there is to prefill: at each turn a piece of one prompt of each lane."""
        while any(lane.pieces for lane in self.lanes):
            tokens = np.zeros((len(self.lanes), self.piece), np.int32)
            where = np.zeros((3, len(self.lanes)), np.int32)  # row, start, count
            for number, lane in enumerate(self.lanes):
                if lane.pieces:
                    row, start = lane.pieces.popleft()
                    piece = row.tokens[start : start + self.piece]
                    tokens[number, : len(piece)] = piece
                    where[:, number] = row.number, start, len(piece)
            self._then(self._extend, *self._place(tokens, *where))

    def _extend(self, tokens: jax.Array, *where: jax.Array) -> None:
        made = programs.extend(platform=self._platform)(
            self._model, self._params, self._prompts, tokens, *where
        )
        self._prompts = programs.STORE(self._model, self._prompts, *made, *where)

    def _advance(self, queue: Queue, seed: np.uint32, strategy: Strategy) -> Drawn:
        self._slots, drawn = programs.advance(platform=self._platform)(
            self._model,
            self._params,
            self._prompts,
            self._slots,
            queue,
            seed,
            strategy.traced(),
            self._stop_ids,
            np.int32(self._limit),
            steps=self._steps,
            places=self._places,
        )
        return everywhere(drawn, self._mesh)

    def give_up(self, handle: int) -> None:
        """Lets go of the samples of a request; their rows are free once the devices know."""
        for lane in self.lanes:
            self._released += lane.give_up(handle)

    def read(self) -> Iterator[Completion[Any]]:
        """Waits for the oldest call, and yields the samples that have ended in it."""
        drawn = self.unread.popleft().result()
        token, logprob, entry = (np.asarray(x) for x in jax.device_get(drawn))
        for lane, entries in zip(self.lanes, entry.transpose(1, 2, 0), strict=True):
            for slot, column in enumerate(entries):
                for first, last in _runs(column):
                    sample = lane.samples.get(int(column[first]))
                    if sample is not None:
                        sample.tokens.append(token[first:last, lane.number, slot])
                        sample.logprobs.append(logprob[first:last, lane.number, slot])
                        sample.length += last - first
                        stopped = int(sample.tokens[-1][-1]) in self._stops
                        if stopped or sample.length >= self._limit:
                            del lane.samples[int(column[first])]
                            lane.leave(sample.row)
                            yield _completed(sample, stopped)

    def _few_tokens(self) -> int:
        """How many tokens of a prompt are prefilled at a time: as many as a cache reads, or a block
        of a wide cache where all of it is read, since a call takes longer there than its tokens."""
        a = self._model.spec.layers[0].attention
        if decoding.by_blocks(self._prompts.cache.layers[0][0]):
            return kv.block_of(a.cache_heads, kv.BLOCK, a.cache_dim)
        return kv.BLOCK

    def _place(self, *arrays: np.ndarray) -> tuple[jax.Array, ...]:
        """Arrays whose first dimension is that of the lanes, on the devices."""
        if self._mesh is None:  # jnp.asarray would wait for the programs that were started before
            return tuple(jax.device_put(arrays))
        return tuple(spread(arrays, NamedSharding(self._mesh, spec_for(("batch",), DECODE_RULES))))

    def _then(
        self, work: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Made]:
        """Does this after all that was asked for before, unless that has failed."""
        before = self._last

        def run() -> Made:
            before.result()
            return work(*args, **kwargs)

        self._last = made = self._thread.submit(run)
        return made


class _Here(Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Callable[..., Made], /, *args: Any, **kwargs: Any) -> Future[Made]:
        done: Future[Made] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def _runs(column: np.ndarray) -> Iterator[tuple[int, int]]:
    """The stretches of a slot's steps that belong to one entry, without those of none."""
    edges = np.flatnonzero(np.diff(column)) + 1
    for first, last in zip([0, *edges], [*edges, len(column)], strict=True):
        if column[first] >= 0:
            yield int(first), int(last)


def _completed(sample: Sample, stopped: bool) -> Completion[Any]:
    tokens, logprobs = np.concatenate(sample.tokens), np.concatenate(sample.logprobs)
    return Completion(sample.request, sample.number, tokens, logprobs, stopped)
