"""The loop's order of events, with everything around it replaced by a list that is written to."""

import os
import signal
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.mesh import MeshConfig
from grm_jax.sharding import make_mesh
from grm_jax.train.guard import KEPT, LIMIT, Guard
from grm_jax.train.loop import Drawn, fit, from_stream
from grm_jax.train.state import TrainState
from grm_jax.train.step import batch_sharding


class Numbers(NamedTuple):
    """A batch."""

    rows: Any


class Stream:
    def __init__(self, events):
        self.events, self.count = events, 0

    def __next__(self):
        self.count += 1
        self.events.append(("batch", self.count))
        return Numbers(np.full((8,), self.count, np.float32))


class Checkpoints:
    def __init__(self, events, every):
        self.events, self.every = events, every

    def due(self, step):
        return step % self.every == 0

    def save(self, step, state, stream, behind, *, force=False):
        assert (int(state.step), stream.count) == (step, step)  # the state and the data agree
        assert behind is None
        self.events.append(("save", step, force))


class Tracker:
    before = {}  # noqa: RUF012

    def __init__(self, events):
        self.events = events

    def log(self, step, numbers, samples):
        assert numbers["train/loss"] == float(step)
        self.events.append(("log", step))


def at(step, weights=None):
    return TrainState(jnp.asarray(step), weights, None)


def train(steps, every=100, start=0, interrupt=lambda done: None, bad=(), folder=None, events=None):
    """The events of a run whose steps in `bad` are skipped, and the last step."""
    events = [] if events is None else events

    def step(state, batch):
        number = int(batch.rows[0])
        events.append(("step", number))
        assert batch.rows.sharding == batch_sharding(mesh)
        interrupt(number)
        state = at(state.step + 1)
        return state, {"train/loss": state.step, "train/skipped": number in bad}

    mesh = make_mesh(MeshConfig(8, 1, 1))
    stream = Stream(events)
    stream.count = start
    state, done = fit(
        at(start),
        step,
        from_stream(stream, mesh),
        start=start,
        steps=steps,
        checkpoints=Checkpoints(events, every),
        tracker=Tracker(events),
        guard=Guard(folder),
        stream=stream,
    )
    assert int(state.step) == done
    return events, done


def test_metrics_are_fetched_one_step_late():
    """Step i + 1 is under way before the host asks for the numbers of step i."""
    events, _ = train(3)
    assert [e for e in events if e[0] in ("step", "log")] == [
        ("step", 1), ("step", 2), ("log", 1), ("step", 3), ("log", 2), ("log", 3),
    ]  # fmt: skip


def train_on_drawn(steps, start=0, weights=0, **options):
    """The events of a run with batches drawn from its weights, a count of the updates."""
    events = []

    class Tracker:
        before = {}  # noqa: RUF012

        def log(self, step, numbers, samples):
            events.append((step, numbers, samples))

    class Checkpoints:
        def due(self, step):
            return False

        def save(self, step, state, stream, behind, *, force):
            events.append(
                ("save", step, int(state.params), behind if behind is None else int(behind))
            )

    def draw(params, step):
        events.append(("draw", int(params), step))
        report = lambda updates, before: ({"sum": sum(u["x"] for u in updates)}, [step])  # noqa: E731
        return Drawn(None, None, report)

    @partial(jax.jit, donate_argnums=0)
    def update(state, batch):
        return TrainState(state.step + 1, state.params + 1, None), {"x": state.params}

    parts = {"checkpoints": Checkpoints(), "tracker": Tracker(), "guard": Guard(None)}
    state = at(start, jnp.asarray(weights))
    fit(state, update, draw, start=start, steps=steps, **parts, **options)
    return events


def test_what_is_drawn_from_the_weights_is_reported_before_the_next_is_drawn():
    """As in RL: nothing to prepare while the device works; each batch may have several updates."""
    assert train_on_drawn(2, updates=2) == [
        ("draw", 0, 0), (1, {"sum": 1.0}, [0]),
        ("draw", 2, 1), (2, {"sum": 5.0}, [1]), ("save", 2, 4, None),
    ]  # fmt: skip


def test_with_overlap_a_batch_is_drawn_from_the_weights_that_the_step_before_began_with():
    """And a step is reported when the next one's update is under way; all of them before a save."""
    assert train_on_drawn(3, updates=2, overlap=True) == [
        ("draw", 0, 0), ("draw", 0, 1), (1, {"sum": 1.0}, [0]),
        ("draw", 2, 2), (2, {"sum": 5.0}, [1]),
        (3, {"sum": 9.0}, [2]), ("save", 3, 6, 4),
    ]  # fmt: skip
    resumed = train_on_drawn(3, 2, 4, updates=2, overlap=True, behind=jnp.asarray(2))
    assert resumed == [("draw", 2, 2), (3, {"sum": 9.0}, [2]), ("save", 3, 6, 4)]


def test_no_checkpoint_is_ahead_of_the_metrics():
    """Otherwise a kill just after the save would lose them: the resumed run starts after it."""
    events, _ = train(5, every=2)
    saves = [(i, event[1]) for i, event in enumerate(events) if event[0] == "save"]
    assert [step for _, step in saves] == [2, 4, 5]
    for position, step in saves:
        assert [e[1] for e in events[:position] if e[0] == "log"] == list(range(1, step + 1))


def test_the_last_step_is_saved_whether_due_or_not():
    events, done = train(3)
    assert done == 3
    assert events[-1] == ("save", 3, True)


def test_a_resumed_loop_makes_what_is_left():
    events, done = train(5, start=3)
    assert [e[1] for e in events if e[0] == "step"] == [4, 5]
    assert done == 5
    assert train(5, start=5) == ([], 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_after_the_step(number):
    before = signal.getsignal(number)
    kill = lambda step: os.kill(os.getpid(), number) if step == 2 else None  # noqa: E731
    events, done = train(5, interrupt=kill)
    assert done == 2
    assert events[-2:] == [("log", 2), ("save", 2, True)]
    assert signal.getsignal(number) == before


def test_a_second_signal_is_not_held_back():
    def kill(step):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # The workers of pytest-xdist ignore the signal; a command does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(5, interrupt=kill)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_skipped_steps_batch_is_kept_and_the_run_goes_on(tmp_path):
    _, done = train(6, bad=(2, 4), folder=tmp_path)
    assert done == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bad_batch_2.npz",
        "bad_batch_4.npz",
    ]
    assert np.load(tmp_path / "bad_batch_4.npz")["rows"].tolist() == [4.0] * 8


def test_nothing_is_saved_until_a_step_is_made_again():
    """The update before a skipped step may be what spoilt the weights."""
    events, _ = train(9, every=2, bad=(3, 4, 6))
    assert [e[1] for e in events if e[0] == "save"] == [2, 8, 9]


def test_too_many_skipped_steps_in_a_row_end_the_run(tmp_path):
    bad, events = range(4, 20), []
    last = 4 + LIMIT - 1
    with pytest.raises(ValueError, match=rf"not finite in 5 steps in a row \(4 to {last}\)"):
        train(20, every=3, bad=bad, folder=tmp_path, events=events)
    assert [e[1] for e in events if e[0] == "save"] == [3]
    assert max(e[1] for e in events if e[0] == "log") == last
    assert max(e[1] for e in events if e[0] == "step") <= last + 1  # noticed a step late
    assert len(list(tmp_path.iterdir())) == LIMIT


def test_a_run_does_not_end_with_a_skipped_step():
    events = []
    with pytest.raises(ValueError, match="not finite in step 5"):
        train(5, every=2, bad=(5,), events=events)
    assert [e[1] for e in events if e[0] == "save"] == [2, 4]


def test_a_signal_saves_nothing_in_the_middle_of_skipped_steps():
    kill = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None  # noqa: E731
    events, done = train(9, bad=(3, 4), interrupt=kill)
    assert done == 4
    assert not [e for e in events if e[0] == "save"]


def test_a_few_batches_are_kept_and_no_more(tmp_path):
    guard = Guard(tmp_path)
    for step in range(1, 4 * KEPT):
        guard.see(step, {"train/skipped": step % 2}, Numbers(np.ones(3)))
    assert len(list(tmp_path.iterdir())) == KEPT
    guard.see(1, {"train/skipped": 1}, Numbers(np.zeros(3)))  # made again after a kill
    assert np.load(tmp_path / "bad_batch_1.npz")["rows"].tolist() == [0.0] * 3
    assert len(list(tmp_path.iterdir())) == KEPT
