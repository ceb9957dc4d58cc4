"""`Engine`: a fixed number of slots that are refilled, and prompts that are prefilled once.

A request's samples wait in a queue on the device and take the slots that others leave. Each prompt
has a row, whose keys and values its samples share; a new one starts from the longest front that any
row has in common with it. While the device advances all slots by some tokens, the host reads those
of the call before, and prepares the next.

A sample's bits depend on its request and the engine's size alone: prompts are cut into pieces at
the same positions whatever is shared, and every sample counts its own steps.

On a CPU slots lie in banks whose calls run side by side, since XLA runs the small kernels of one
call on one core.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.sampling import programs
from grm_jax.sampling.bank import Bank
from grm_jax.sampling.lanes import Front, Lane, Sample, fronts_of
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.size import EngineSize
from grm_jax.sampling.strategy import Strategy

OF_A_BANK = 32  # slots; with fewer the weights, which every bank reads, are a larger part


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
        self.size, self.mesh = size, mesh
        self._made_for = (params, tuple(stop_ids), max_new_tokens, size, mesh)
        self.strategy, self.seed = Strategy(), 0
        count = size.banks or _banks_for(size.slots, mesh)
        slots = -(-size.slots // count)
        prompts = -(-(size.prompts or -(-size.slots * 3 // 2)) // count)
        with self._on_mesh():
            taken = programs.split(params, model.dtype) if mesh is None else params
            self.banks = [
                Bank(
                    model,
                    taken,
                    stop_ids=tuple(map(int, stop_ids)),
                    max_new_tokens=max_new_tokens,
                    size=dataclasses.replace(size, slots=slots, prompts=prompts),
                    mesh=mesh,
                    alone=count == 1,
                )
                for _ in range(count)
            ]
        self._lanes = [(bank, lane) for bank in self.banks for lane in bank.lanes]
        self._waiting: collections.deque[tuple[int, Request[Any], tuple[int, ...]]] = (
            collections.deque()
        )
        self._turn = 0
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
        for bank in self.banks:
            bank.give_up(handle)

    @property
    def waiting(self) -> int:
        """Samples that have no row yet."""
        return sum(len(samples) for _, _, samples in self._waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do and nothing to come."""
        return not self._waiting and all(bank.idle for bank in self.banks)

    def step(self) -> list[Completion[Any]]:
        """Starts the next call of the bank whose turn it is, and gives back what the one before it
        has finished."""
        with self._on_mesh():
            self._admit()
            bank = self._next_bank()
            started = bank.start(self.seed, self.strategy)
        return list(bank.read()) if len(bank.unread) > started else []

    def _next_bank(self) -> Bank:
        """They take turns, as far as they have something to do. All of them do about as much in a
        call, and so in time none waits for another; and what comes back, comes in the same order
        every time."""
        for _ in self.banks:
            self._turn = (self._turn + 1) % len(self.banks)
            if not self.banks[self._turn].idle:
                break
        return self.banks[self._turn]

    def _on_mesh(self) -> Any:
        return jax.set_mesh(self.mesh) if self.mesh else nullcontext()

    def _admit(self) -> None:
        """Gives rows to waiting requests, in their order, as long as there are any."""
        self._add_rows()
        while self._waiting and any(lane.free for _, lane in self._lanes):
            handle, request, samples = self._waiting.popleft()
            now, later = samples[: self.size.places], samples[self.size.places :]
            if later:
                self._waiting.appendleft((handle, request, later))
            tokens = np.asarray(request.tokens, np.int32)
            fronts = fronts_of(tokens, self.banks[0].piece)
            bank, lane = self._lane_for(fronts)
            row = bank.settle(lane, tokens, fronts)
            for place, number in enumerate(now):
                lane.enqueue(Sample(handle, request, number, row, place))

    def _add_rows(self) -> None:
        """Makes room for more prompts, if those that there is room for would leave slots empty.

        Rows that nobody needs cost time where a program reads all of them.
        """
        samples = sum(len(lane.samples) for _, lane in self._lanes)
        if samples >= self.size.slots:
            return
        rows = sum(lane.taken for _, lane in self._lanes)
        for _, _, waiting in self._waiting:
            if samples >= self.size.slots:
                break
            samples += len(waiting)
            rows += -(-len(waiting) // self.size.places)
        wanted = -(-rows * 3 // 2) // len(self._lanes)  # some for the queue
        for bank in self.banks:
            bank.add_rows(wanted)

    def _lane_for(self, fronts: list[Front]) -> tuple[Bank, Lane]:
        """Of the lanes with a free row, the one that has most of this prompt already, unless
        another has fewer samples by a quarter of its slots; else the one with the fewest."""
        free = [(bank, lane) for bank, lane in self._lanes if lane.free]
        most = min(len(lane.samples) for _, lane in free) + self.banks[0].width // 4
        near = [(bank, lane) for bank, lane in free if len(lane.samples) <= most]
        return max(near, key=lambda one: (one[1].find(fronts)[0], -len(one[1].samples)))


def _banks_for(slots: int, mesh: Mesh | None) -> int:
    """How many banks suit the device."""
    here = mesh is None and jax.default_backend() == "cpu"
    return max(slots // OF_A_BANK, 1) if here else 1
