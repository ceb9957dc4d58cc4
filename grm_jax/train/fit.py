"""The loop: batches in, updates made, metrics and checkpoints out, and a clean stop."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import grain
import jax
from jax.sharding import NamedSharding

from grm_jax.processes import anywhere, several, spread
from grm_jax.train.checkpoint import Checkpoints
from grm_jax.train.guard import Guard
from grm_jax.train.state import TrainState
from grm_jax.train.step import Step
from grm_jax.train.tracking import Tracker


class Interruption(AbstractContextManager):
    """Turns the first SIGTERM or Ctrl-C into a wish to stop after the step; the second one stops.

    In a job of several processes the wish of one is that of all. JAX's preemption service is not
    used for that: it agrees on the number of a step, and every stage counts its steps anew.
    """

    def __init__(self) -> None:
        self._wanted = False
        self._told: jax.Array | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._wanted = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def wanted(self) -> bool:
        """Whether the run is to save and stop after this step (the same in all processes).

        To be asked after every step. Of several processes, what they told each other after the step
        before is read, so that nobody waits for it.
        """
        if not several():
            return self._wanted
        before, self._told = self._told, anywhere(self._wanted)
        return before is not None and bool(before)


def fit(
    state: TrainState,
    step: Step,
    stream: grain.DatasetIterator,
    place: NamedSharding,
    *,
    start: int,
    steps: int,
    checkpoints: Checkpoints,
    tracker: Tracker,
    guard: Guard,
) -> tuple[TrainState, int]:
    """Makes updates start + 1 .. steps; returns the state and how many updates it has seen.

    Metrics are fetched one step late, so that the host prepares a batch while the device works;
    only before a checkpoint it catches up, so that no step's metrics are lost with a kill.
    After a skipped step nothing is saved, until one is made again.

    Args:
        place: the sharding of a batch, of which each process feeds its own rows.

    Raises:
        ValueError: too many steps were skipped in a row, or the last one was.
    """
    waiting: tuple[int, Any, Any] | None = None

    def catch_up() -> None:
        nonlocal waiting
        if waiting is not None:
            (number, metrics, batch), waiting = waiting, None
            numbers = {name: float(x) for name, x in jax.device_get(metrics).items()}
            tracker.log(number, numbers)
            guard.see(number, numbers, lambda: batch)

    done = start
    with Interruption() as interruption:
        while done < steps:
            batch = next(stream)
            state, metrics = step(state, spread(batch, place))
            catch_up()
            done += 1
            waiting = (done, metrics, batch)
            last = done == steps or interruption.wanted()
            if last or checkpoints.due(done):
                catch_up()
                if done == steps:
                    guard.finish(done)
                if not guard.in_row:
                    checkpoints.save(done, state, stream, force=last)
            if last:
                break
    return state, done
