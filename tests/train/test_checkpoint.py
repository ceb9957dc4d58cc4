"""Checkpoints: whole or absent, on any mesh, with the place in the data."""

import jax
import numpy as np
import optax
import pytest

from grm_jax.data.pipeline import BatchConfig, TokenRow, make_stream
from grm_jax.sharding import MeshConfig, make_mesh
from grm_jax.train.checkpoint import CheckpointConfig, Checkpoints, is_checkpoints, saved_model
from grm_jax.train.state import abstract_state, new_state, state_shardings

OPTIMIZER = optax.adamw(1e-3)


class Rows:
    def __len__(self):
        return 50

    def __getitem__(self, index):
        return TokenRow(np.full(3 + index % 5, index, np.int32), np.ones(3 + index % 5, bool))


@pytest.fixture
def stream():
    opened = []

    def open_stream():
        opened.append(make_stream([(Rows(), 1.0)], BatchConfig(4, 8), seed=0))
        return opened[-1]

    yield open_stream
    for iterator in opened:
        iterator.close()


@pytest.fixture
def saved(model, params, stream, tmp_path):
    """A folder with checkpoints 2, 4, 6 of which two are kept; state 6; the batch that follows."""
    state = new_state(params, OPTIMIZER)
    iterator = stream()
    with Checkpoints(tmp_path / "run", CheckpointConfig(every=2, keep=2), model) as checkpoints:
        assert checkpoints.latest is None
        for step in range(1, 7):
            next(iterator)
            state = jax.tree.map(lambda x: x + 1, state)
            checkpoints.save(step, state, iterator)
        kept = jax.device_get(state)
    return tmp_path / "run", kept, next(iterator)


def restore(folder, model, stream, mesh):
    places = state_shardings(model, OPTIMIZER, mesh)
    iterator = stream()
    with Checkpoints(folder) as checkpoints:
        state = checkpoints.restore(abstract_state(model, OPTIMIZER, places), iterator)
    return state, places, iterator


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (2, 4, 1)])
def test_a_state_comes_back_whole_on_any_mesh(saved, model, stream, shape):
    folder, kept, following = saved
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: int(np.prod(shape))])
    state, places, iterator = restore(folder, model, stream, mesh)
    assert jax.tree.structure(state) == jax.tree.structure(kept)
    jax.tree.map(np.testing.assert_array_equal, state, kept)
    assert jax.tree.map(lambda x: x.sharding, state) == places
    for got, wanted in zip(next(iterator), following, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_the_last_few_are_kept(saved):
    assert sorted(p.name for p in saved[0].iterdir() if p.name.isdigit()) == ["4", "6"]


def test_a_half_written_checkpoint_does_not_exist(saved, model, stream):
    """What a kill leaves: a folder under Orbax's temporary name, here beside the whole ones."""
    folder, kept, _ = saved
    torn = folder / "8.orbax-checkpoint-tmp"
    (torn / "params").mkdir(parents=True)
    (torn / "params" / "manifest.ocdbt").write_bytes(b"\0")
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == 6
    state, *_ = restore(folder, model, stream, make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1]))
    assert int(state.step) == int(kept.step)
    assert not torn.exists()


def test_weights_alone_can_be_read_by_who_knows_only_the_folder(saved, model):
    folder, kept, _ = saved
    assert is_checkpoints(folder)
    assert saved_model(folder) == model
    places = state_shardings(model, OPTIMIZER, make_mesh(MeshConfig(2, 4, 1)))
    with Checkpoints(folder) as checkpoints:
        got = checkpoints.restore_params(abstract_state(model, OPTIMIZER, places).params)
    jax.tree.map(np.testing.assert_array_equal, got, kept.params)


def test_a_save_is_due_every_so_often_or_when_forced(model, params, stream, tmp_path):
    state, iterator = new_state(params, OPTIMIZER), stream()
    with Checkpoints(tmp_path / "run", CheckpointConfig(every=3)) as checkpoints:
        assert [step for step in range(1, 10) if checkpoints.due(step)] == [3, 6, 9]
        checkpoints.save(3, state, iterator)
        assert not checkpoints.due(3)
        checkpoints.save(4, state, iterator)
        assert checkpoints.latest == 3
        checkpoints.save(5, state, iterator, force=True)
        assert checkpoints.latest == 5


def test_a_folder_without_a_checkpoint_is_no_start(model, tmp_path):
    with Checkpoints(tmp_path / "run", CheckpointConfig(), model):
        pass
    with pytest.raises(ValueError, match="no whole checkpoint"):
        saved_model(tmp_path / "run")
    assert not is_checkpoints(tmp_path)


def test_counts_of_nothing_are_refused():
    for change in ({"every": 0}, {"keep": 0}):
        with pytest.raises(ValueError, match="give 1 or more"):
            CheckpointConfig(**change)
