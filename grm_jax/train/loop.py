"""The loop of every stage: a batch is drawn, updates are made, metrics and checkpoints written."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from grm_jax.copies import carry_over, kept_at
from grm_jax.models.model import Model
from grm_jax.objectives.routing import check_router_loss
from grm_jax.places import Where
from grm_jax.processes import anywhere, is_first, say, several, spread
from grm_jax.train.adapter import trained_part
from grm_jax.train.checkpoint import Checkpoints
from grm_jax.train.config import OptimizerConfig
from grm_jax.train.guard import Guard
from grm_jax.train.optimizer import make_optimizer, make_schedule
from grm_jax.train.run import Run
from grm_jax.train.state import TrainState, abstract_state, placed_state, state_shardings
from grm_jax.train.step import (
    Join,
    Step,
    SumLoss,
    batch_sharding,
    compile_step,
    make_step,
    trained_alone,
)
from grm_jax.train.tracking import Numbers, Tracker

# report(metrics of each update, numbers of the step before) -> numbers of this step, and samples.
Report = Callable[[list[Numbers], Numbers], tuple[Numbers, Sequence[Mapping[str, Any]]]]


class Drawn(NamedTuple):
    """The batch of one step.

    `host` is a named tuple of arrays, the same in every process; `batch` the same on the mesh,
    where each process feeds its own rows, with what only the devices can add. Without a `report`
    the numbers of a step are the metrics of its last update.
    """

    host: Any
    batch: Any
    report: Report | None = None


Draw = Callable[[Any, int], Drawn]  # of the weights and how many steps are done


class Interruption(AbstractContextManager):
    """Turns the first SIGTERM or Ctrl-C into a request to stop after the step; a second one stops
    at once.

    In a job of several processes a request to one stops all. JAX's preemption service is not used
    for that: it agrees on the number of a step, and every stage counts its steps anew.
    """

    def __init__(self) -> None:
        self._wanted = False
        self._anywhere: jax.Array | None = None
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

        To be called after every step. Several processes exchange their requests after each step and
        read those of the step before, so that nobody waits for the exchange.
        """
        if not several():
            return self._wanted
        before, self._anywhere = self._anywhere, anywhere(self._wanted)
        return before is not None and bool(before)


def train_stage(
    run: Run,
    model: Model,
    make_params: Callable[[], Any],
    loss: SumLoss,
    batches: grain.DatasetIterator | Draw,
    optimizer: OptimizerConfig,
    *,
    steps: int,
    folder: Path,
    name: str,
    updates: int = 1,
    overlap: bool = False,
    before: Where | None = None,
) -> Any | None:
    """Minimises a loss over batches, from where the folder's checkpoints end.

    Args:
        batches: a stream, whose position is saved with the weights; or what draws them.
        updates: of each batch.
        overlap: see `fit`.
        before: of an adapter, the checkpoints of the stage before, which it begins with.

    Returns:
        What was trained after the last step, the weights or an adapter; None if a signal stopped
        the stage before.

    Raises:
        ValueError: router losses are asked for, and the model has no experts.
    """
    check_router_loss(model.spec, run.training.router_loss)
    folder.mkdir(parents=True, exist_ok=True)
    stream = None if callable(batches) else batches
    draw = batches if callable(batches) else from_stream(batches, run.mesh)
    schedule = make_schedule(optimizer, steps * updates)
    part = trained_part(run, model, make_params, before)
    transform = make_optimizer(optimizer, schedule, part.weights.axes())
    shardings = state_shardings(part.weights, transform, run.mesh)
    parts = run.training.compute.microbatches
    step = make_step(loss, transform, schedule, microbatches=parts, join=part.join)
    # An adapter alone is no model, from which another run could start.
    kept = model if part.weights is model else None
    with Checkpoints(kept_at(folder / "checkpoints"), run.training.checkpoint, kept) as checkpoints:
        done, behind = checkpoints.latest or 0, None
        if done:
            abstract = abstract_state(part.weights, transform, shardings)
            state = checkpoints.restore(abstract, stream)
            behind = checkpoints.restore_behind(abstract.params) if overlap else None
        else:
            state = placed_state(part.begin(), transform, shardings)
        frozen, places = part.frozen()
        state, shardings = replace(state, frozen=frozen), replace(shardings, frozen=places)
        written = folder if is_first() else None
        tracker = Tracker(written, run.config.tracking, start=done, total=steps, name=name)
        try:
            state, done = fit(
                state,
                compile_step(step, shardings, run.mesh),
                draw,
                start=done,
                steps=steps,
                checkpoints=checkpoints,
                tracker=tracker,
                guard=Guard(written),
                stream=stream,
                updates=updates,
                overlap=overlap,
                behind=behind,
                join=part.join,
            )
        finally:
            tracker.close()
            if stream is not None:
                stream.close()
    if done < steps:
        say(
            f"Stopped after step {done} of {steps} of the stage {name}; the same command "
            "continues from there."
        )
        return None
    return state.params


def from_stream(stream: grain.DatasetIterator, mesh: Mesh) -> Draw:
    """Draws the batches of a stream."""
    sharding = batch_sharding(mesh)

    def draw(params: Any, step: int) -> Drawn:
        batch = next(stream)
        return Drawn(batch, spread(batch, sharding))

    return draw


def fit(
    state: TrainState,
    update: Step,
    draw: Draw,
    *,
    start: int,
    steps: int,
    checkpoints: Checkpoints,
    tracker: Tracker,
    guard: Guard,
    stream: grain.DatasetIterator | None = None,
    updates: int = 1,
    overlap: bool = False,
    behind: Any | None = None,
    join: Join = trained_alone,
) -> tuple[TrainState, int]:
    """Makes steps start + 1 .. steps; returns the state and how many steps it has seen.

    Where batches come from a stream, metrics are fetched one step late, so that the host prepares a
    batch while the device works; before a checkpoint the loop catches up, so that no step's metrics
    are lost with a kill. After a skipped step nothing is saved, until one is made again.

    Args:
        overlap: each batch but the first is drawn from the weights that the step before began with,
            so that this need not wait for that step's update; and metrics are fetched late.
        behind: those weights, of the step `start`, with which its checkpoint was saved.
        join: see `make_step`; what is drawn from are the model's parameters.

    Raises:
        ValueError: too many steps were skipped in a row, or the last one was.
    """
    waiting: tuple[int, Drawn, list[Any]] | None = None

    def catch_up() -> None:
        nonlocal waiting
        if waiting is not None:
            (number, drawn, metrics), waiting = waiting, None
            fetched = [
                {name: float(x) for name, x in one.items()} for one in jax.device_get(metrics)
            ]
            numbers, samples = fetched[-1], ()
            if drawn.report is not None:
                numbers, samples = drawn.report(fetched, tracker.before)
            tracker.log(number, numbers, samples)
            guard.see(number, numbers, drawn.host)

    done = start
    with Interruption() as interruption:
        while done < steps:
            weights = join(state.frozen, state.params if behind is None else behind)
            drawn, metrics = draw(weights, done), []
            del weights  # of which the update takes the memory
            if overlap:  # a copy, for the update takes the memory of its own
                behind = jax.tree.map(jnp.copy, state.params)
            for _ in range(updates):
                state, one = update(state, drawn.batch)
                metrics.append(one)
            catch_up()
            done += 1
            waiting = (done, drawn, metrics)
            last = done == steps or interruption.wanted()
            save = last or checkpoints.due(done)
            # From the newest weights nothing can be drawn before this step is done.
            if save or (stream is None and not overlap):
                catch_up()
            if save:
                if done == steps:
                    guard.finish(done)
                if not guard.in_row:
                    carry_over()
                    checkpoints.save(done, state, stream, behind, force=last)
            if last:
                break
    return state, done
