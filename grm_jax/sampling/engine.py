"""`Engine`: a fixed number of slots that are refilled, and prompts that are prefilled once.

A request's samples wait in a queue on the device and take the slots that others leave. Each prompt
has a row, whose keys and values its samples share; a new one starts from the longest front that any
row has in common with it. While the device advances all slots by some tokens, the host reads those
of the call before, and prepares the next.

A sample's bits depend on its request and the engine's size alone: prompts are cut into pieces at
the same positions whatever is shared, and every sample counts its own steps.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

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
from grm_jax.sampling.lanes import Lane, Row, Sample, new_lane
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.state import Drawn, Queue
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import DECODE_RULES, spec_for

FEW_ROWS = 24  # for prompts, in a lane, at first


@dataclass(frozen=True)
class EngineSize:
    """How much an engine does at a time; a sample's bits depend on it.

    Args:
        slots: samples decoded at once.
        prompts: prompts that are kept at most; 0: half as many again as slots.
        places: samples of a prompt that share its row; more have a copy of it.
        piece: tokens of a prompt that are prefilled at a time; 0: as many as suit the device.
        steps: tokens that a call draws in each slot.
    """

    slots: int = 64
    prompts: int = 0
    places: int = 4
    piece: int = 0
    steps: int = 32


class Engine:
    """Draws completions from a language model, for requests that may come at any time.

    Args:
        params: placed on the mesh.
        size: see `EngineSize`; slots and prompts are divided among the lanes of a mesh.
        mesh: devices to spread over; None for one device.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        *,
        stop_ids: Sequence[int],
        max_new_tokens: int,
        size: EngineSize,
        mesh: Mesh | None = None,
    ):
        self.model, self.size, self.mesh = model, size, mesh
        self._platform = programs.options_for(params, model.dtype)
        self._made_for = (params, tuple(stop_ids), max_new_tokens, size, mesh)
        self.strategy, self.seed = Strategy(), 0
        self._limit, self._stops = max_new_tokens, frozenset(map(int, stop_ids))
        self._stop_ids = jnp.asarray(list(stop_ids), jnp.int32)
        self._longest = model.config.max_position - max_new_tokens
        lanes = mesh.shape["data"] * mesh.shape["fsdp"] if mesh else 1
        self._most_rows = -(-(size.prompts or -(-size.slots * 3 // 2)) // lanes)
        self.rows = min(FEW_ROWS, self._most_rows)
        # Lanes prefill together; one that has nothing to do writes into row 0, which nobody reads.
        spare = int(lanes > 1)
        self._length = min(kv.FIRST_LENGTH, kv.in_blocks(self._longest))
        self._params = programs.split(params, model.dtype) if mesh is None else params
        with self._on_mesh():
            self._prompts = programs.new_prompts(
                model, lanes, spare + self.rows, self._length, mesh
            )
            self._slots = programs.new_slots(model, lanes, size.slots // lanes, self._limit, mesh)
            self._piece = size.piece or self._few_tokens()
        self._lanes = [
            new_lane(lane, spare, self._most_rows, self._piece, size.places)
            for lane in range(lanes)
        ]
        for lane in self._lanes:
            lane.make_room(self.rows)
        self._waiting: collections.deque[tuple[int, Request[Any], tuple[int, ...]]] = (
            collections.deque()
        )
        self._in_flight: collections.deque[Drawn] = collections.deque()
        self._released: list[Row] = []
        self._handles = 0

    def fits(
        self,
        params: Params,
        stop_ids: Sequence[int],
        max_new_tokens: int,
        size: EngineSize,
        mesh: Mesh | None,
    ) -> bool:
        """Whether it was made for just this."""
        mine, *others = self._made_for
        return mine is params and others == [tuple(stop_ids), max_new_tokens, size, mesh]

    def submit(self, request: Request[Any]) -> int:
        """Takes a request; its handle is what `cancel` knows it by."""
        self._handles += 1
        self._waiting.append((self._handles, request, request.samples))
        return self._handles

    def cancel(self, handle: int) -> None:
        """Gives up those samples of a request that have not come back."""
        self._waiting = collections.deque(w for w in self._waiting if w[0] != handle)
        for lane in self._lanes:
            self._released += lane.give_up(handle)

    @property
    def waiting(self) -> int:
        """Samples that have no row yet."""
        return sum(len(samples) for _, _, samples in self._waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do and nothing to come."""
        return not (self._waiting or self._in_flight or any(x.samples for x in self._lanes))

    def step(self) -> list[Completion[Any]]:
        """Starts the next call, and gives back what the one before it has finished."""
        with self._on_mesh():
            self._admit()
            self._prefill()
            sent = any(lane.samples for lane in self._lanes)
            if sent:
                self._in_flight.append(self._advance())
        for row in self._released:
            self._lanes[row.lane].leave(row)
        self._released.clear()
        if len(self._in_flight) > sent:
            return list(self._read(self._in_flight.popleft()))
        return []

    def _few_tokens(self) -> int:
        """How many tokens of a prompt are prefilled at a time: as many as a cache reads, or a block
        of a wide cache where all of it is read, since a call takes longer there than its tokens."""
        a = self.model.spec.layers[0].attention
        if decoding.by_blocks(self._prompts.cache.layers[0][0]):
            return kv.block_of(a.cache_heads, kv.BLOCK, a.cache_dim)
        return kv.BLOCK

    def _on_mesh(self) -> Any:
        return jax.set_mesh(self.mesh) if self.mesh else nullcontext()

    def _admit(self) -> None:
        """Gives rows to waiting requests, in their order, as long as there are any."""
        self._add_rows()
        while self._waiting and (lane := self._next_lane()) is not None:
            handle, request, samples = self._waiting.popleft()
            now, later = samples[: self.size.places], samples[self.size.places :]
            if later:
                self._waiting.appendleft((handle, request, later))
            row = self._settle(lane, np.asarray(request.tokens, np.int32))
            for place, number in enumerate(now):
                lane.enqueue(Sample(handle, request, number, row, place))

    def _add_rows(self) -> None:
        """Makes room for more prompts, if those that there is room for would leave slots empty.

        Rows that nobody needs cost time where a program reads all of them.
        """
        samples = sum(len(lane.samples) for lane in self._lanes)
        if samples >= self.size.slots:
            return
        rows = sum(lane.taken for lane in self._lanes)
        for _, _, waiting in self._waiting:
            if samples >= self.size.slots:
                break
            samples += len(waiting)
            rows += -(-len(waiting) // self.size.places)
        before, wanted = self.rows, -(-rows * 3 // 2) // len(self._lanes)  # some for the queue
        while self.rows < min(wanted, self._most_rows):
            self.rows = min(2 * self.rows, self._most_rows)
        if self.rows > before:
            self._prompts = programs.with_more_rows(
                self.model, self._prompts, self.rows - before, self._length, self.mesh
            )
            for lane in self._lanes:
                lane.make_room(self.rows)

    def _next_lane(self) -> Lane | None:
        """The lane with the fewest samples of those that have a free row."""
        lanes = [lane for lane in self._lanes if lane.free]
        return min(lanes, key=lambda lane: len(lane.samples)) if lanes else None

    def _settle(self, lane: Lane, tokens: np.ndarray) -> Row:
        """A row of the lane in which this prompt is, or is going to be."""
        self._make_room(len(tokens))
        shared, source = lane.find(tokens)
        row = lane.take(source)
        if source is not None and row is not source:
            self._prefill()
            self._copy(lane, source, row)
        cache = self._prompts.cache.layers
        rings = map(kv.ring_of, cache, self.model.spec.windows)
        lane.hold(row, tokens, shared, min(rings))
        return row

    def _make_room(self, length: int) -> None:
        """Lengthens all rows, if a prompt of this length needs it."""
        if length > self._length:
            self._prefill()
            before, longest = self._length, kv.in_blocks(self._longest)
            while self._length < length:
                self._length = min(2 * self._length, longest)
            self._prompts = programs.lengthened(
                self.model, self._prompts, before, self._length, self.mesh
            )

    def _copy(self, lane: Lane, source: Row, target: Row) -> None:
        pairs = np.zeros((2, len(self._lanes)), np.int32)
        pairs[:, lane.number] = source.number, target.number
        self._prompts = programs.COPY(self._prompts, *self._place(*pairs))

    def _prefill(self) -> None:
        """Starts what there is to prefill: at each turn a piece of one prompt of each lane."""
        size = self._piece
        while any(lane.pieces for lane in self._lanes):
            tokens = np.zeros((len(self._lanes), size), np.int32)
            where = np.zeros((3, len(self._lanes)), np.int32)  # row, start, count
            for number, lane in enumerate(self._lanes):
                if lane.pieces:
                    row, start = lane.pieces.popleft()
                    piece = row.tokens[start : start + size]
                    tokens[number, : len(piece)] = piece
                    where[:, number] = row.number, start, len(piece)
            ids, *at = self._place(tokens, *where)
            made = programs.extend(platform=self._platform)(
                self.model, self._params, self._prompts, ids, *at
            )
            self._prompts = programs.STORE(self.model, self._prompts, *made, *at)

    def _advance(self) -> Drawn:
        """Starts the next call."""
        fields = [np.stack(parts) for parts in zip(*(x.queue for x in self._lanes), strict=True)]
        fields[-1] = np.array([lane.tail for lane in self._lanes], np.int32)
        self._slots, drawn = programs.advance(platform=self._platform)(
            self.model,
            self._params,
            self._prompts,
            self._slots,
            Queue(*self._place(*fields)),
            np.uint32(self.seed),
            self.strategy.traced(),
            self._stop_ids,
            np.int32(self._limit),
            steps=self.size.steps,
            places=self.size.places,
        )
        return everywhere(drawn, self.mesh)

    def _place(self, *arrays: np.ndarray) -> tuple[jax.Array, ...]:
        """Arrays whose first dimension is that of the lanes, on the devices."""
        if self.mesh is None:  # jnp.asarray would wait for the programs that were started before
            return tuple(jax.device_put(arrays))
        return tuple(spread(arrays, NamedSharding(self.mesh, spec_for(("batch",), DECODE_RULES))))

    def _read(self, drawn: Drawn) -> Iterator[Completion[Any]]:
        """Waits for a call, and yields the samples that have ended in it."""
        token, logprob, entry = (np.asarray(x) for x in jax.device_get(drawn))
        for lane, entries in zip(self._lanes, entry.transpose(1, 2, 0), strict=True):
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


def _runs(column: np.ndarray) -> Iterator[tuple[int, int]]:
    """The stretches of a slot's steps that belong to one entry, without those of none."""
    edges = np.flatnonzero(np.diff(column)) + 1
    for first, last in zip([0, *edges], [*edges, len(column)], strict=True):
        if column[first] >= 0:
            yield int(first), int(last)


def _completed(sample: Sample, stopped: bool) -> Completion[Any]:
    tokens, logprobs = np.concatenate(sample.tokens), np.concatenate(sample.logprobs)
    return Completion(sample.request, sample.number, tokens, logprobs, stopped)
