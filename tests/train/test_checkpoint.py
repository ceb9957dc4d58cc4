"""Checkpoints: whole or absent, on any mesh, with the place in the data."""

import os
import shutil
import time
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from orbax.checkpoint._src.metadata.checkpoint import _MetadataStoreImpl

from grm_jax.data.config import BatchConfig
from grm_jax.data.pipeline import TokenRow, make_stream
from grm_jax.mesh import MeshConfig
from grm_jax.sharding import make_mesh
from grm_jax.train import checksums
from grm_jax.train.checkpoint import BROKEN, Checkpoints, is_checkpoints, load_params, saved_model
from grm_jax.train.config import CheckpointConfig, RunConfig, TrainingConfig
from grm_jax.train.export import export
from grm_jax.train.finite import check_finite
from grm_jax.train.run import Run
from grm_jax.train.start import load_start
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


def test_the_weights_that_the_next_batch_is_drawn_from_come_back(model, params, tmp_path):
    state, places = (
        new_state(params, OPTIMIZER),
        state_shardings(model, OPTIMIZER, make_mesh(MeshConfig(2, 2, 2))),
    )
    behind = jax.tree.map(lambda x: x + 1, params)
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(1, state, None, behind, force=True)
    with Checkpoints(tmp_path / "run") as checkpoints:
        abstract = abstract_state(model, OPTIMIZER, places)
        found = checkpoints.restore_behind(abstract.params)
        jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(abstract).params, params)
    jax.tree.map(np.testing.assert_array_equal, found, behind)
    assert jax.tree.map(lambda x: x.sharding, found) == places.params


def test_the_last_few_are_kept(saved):
    assert sorted(p.name for p in saved[0].iterdir() if p.name.isdigit()) == ["4", "6"]


def test_a_half_written_checkpoint_does_not_exist(saved, model, stream):
    """What a kill leaves: a folder under Orbax's temporary name, here beside the whole ones."""
    folder, kept, _ = saved
    torn = folder / "8.orbax-checkpoint-tmp"
    (torn / "params").mkdir(parents=True)
    (torn / "params" / "manifest.ocdbt").write_bytes(b"\0")
    with Checkpoints(folder) as checkpoints:
        assert not torn.exists()
        assert checkpoints.latest == 6
    state, *_ = restore(folder, model, stream, make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1]))
    assert int(state.step) == int(kept.step)


def test_weights_alone_can_be_read_by_who_knows_only_the_folder(saved, model):
    folder, kept, _ = saved
    assert is_checkpoints(folder)
    assert saved_model(folder) == model
    places = state_shardings(model, OPTIMIZER, make_mesh(MeshConfig(2, 4, 1)))
    got = load_params(folder, abstract_state(model, OPTIMIZER, places).params)
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


@pytest.fixture(scope="module")
def two(model, params, tmp_path_factory):
    """A folder with checkpoints 4 and 6, to be copied."""
    folder = tmp_path_factory.mktemp("two") / "run"
    state = new_state(params, OPTIMIZER)
    with Checkpoints(folder, CheckpointConfig(every=2, keep=2), model) as checkpoints:
        for step in (4, 6):
            checkpoints.save(step, state)
            state = jax.tree.map(lambda x: x + 1, state)
    return folder


def largest(folder, part="params"):
    return max(
        (p for p in (folder / part).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def empty_folder(newest):
    shutil.rmtree(newest)
    newest.mkdir()


DAMAGE = {
    "cut": (lambda n: os.truncate(largest(n), 100), "has 100 bytes in params/"),
    "bit": (lambda n: flip(largest(n)), "holds something else in params/"),
    "emptied": (lambda n: largest(n).write_bytes(b""), "has 0 bytes in params/"),
    "removed": (lambda n: largest(n).unlink(), "lacks params/"),
    "optimiser": (lambda n: flip(largest(n, "rest/ocdbt.process_0")), "else in rest/"),
    "metadata": (lambda n: (n / "params" / "_METADATA").unlink(), "lacks params/_METADATA"),
    "description": (lambda n: (n / checksums.DESCRIPTION).write_text(""), checksums.DESCRIPTION),
    "folder": (empty_folder, "has no checksums.json"),
    "no sums": (lambda n: (n / checksums.CHECKSUMS).unlink(), "has no checksums.json"),
    "sums cut": (lambda n: os.truncate(n / checksums.CHECKSUMS, 200), "cannot be read"),
    "sums changed": (lambda n: (n / checksums.CHECKSUMS).write_text("[]"), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_checkpoint_is_named_and_kept_and_the_one_before_it_is_used(
    two, tmp_path, capsys, damage
):
    folder = tmp_path / "run"
    shutil.copytree(two, folder)
    change, told = DAMAGE[damage]
    change(folder / "6")
    before = sorted(p.relative_to(folder / "6") for p in (folder / "6").rglob("*"))
    with Checkpoints(folder, CheckpointConfig(every=2)) as checkpoints:
        assert checkpoints.latest == 4
        assert checkpoints.due(6)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(folder / "6") in line
    assert told in line
    aside = folder / BROKEN / "6"
    assert sorted(p.relative_to(aside) for p in aside.rglob("*")) == before


def test_the_checkpoint_before_a_broken_one_is_loaded_and_the_broken_step_saved_anew(
    two, model, tmp_path, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(two, folder)
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    abstract = abstract_state(model, OPTIMIZER, state_shardings(model, OPTIMIZER, mesh))
    flip(largest(folder / "6"))
    older = load_params(folder, abstract.params)
    assert not (folder / BROKEN).exists()  # who only reads moves nothing
    with Checkpoints(folder, CheckpointConfig(every=2)) as checkpoints:
        state = checkpoints.restore(abstract)
        jax.tree.map(np.testing.assert_array_equal, older, state.params)
        state = jax.tree.map(lambda x: x + 1, state)
        checkpoints.save(6, state)
    assert capsys.readouterr().err.count("holds something else in params/") == 2
    newest = load_params(folder, abstract.params)
    jax.tree.map(np.testing.assert_array_equal, newest, state.params)
    flip(largest(folder / "6"))
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == 4
    assert sorted(p.name for p in (folder / BROKEN).iterdir()) == ["6", "6.2"]


def test_no_sound_checkpoint_is_a_sentence_and_nothing_is_touched(two, model, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(two, folder)
    for step in ("4", "6"):
        os.truncate(largest(folder / step), 10)
    before = sorted(folder.rglob("*"))
    for use in (Checkpoints, lambda f: load_params(f, model.abstract())):
        with pytest.raises(ValueError, match="no checkpoint is intact") as caught:
            use(folder)
        assert all(f"{folder / step} has 10 bytes in" in str(caught.value) for step in ("4", "6"))
    assert sorted(folder.rglob("*")) == before


def test_a_bit_in_any_file_is_noticed(two, tmp_path):
    step = tmp_path / "6"
    shutil.copytree(two / "6", step)
    assert checksums.fault(step) is None
    files = [p for p in step.rglob("*") if p.is_file() and p != step / "commit_success.txt"]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        flip(path)
        assert checksums.fault(step) is not None, path
        path.write_bytes(content)
    assert checksums.fault(step) is None


def test_a_broken_description_of_the_newest_does_not_hide_the_model(two, model, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(two, folder)
    flip(folder / "6" / checksums.DESCRIPTION)
    assert saved_model(folder) == model
    flip(folder / "4" / checksums.DESCRIPTION)
    with pytest.raises(ValueError, match="no whole checkpoint"):
        saved_model(folder)


def test_weights_that_are_not_finite_are_neither_started_from_nor_written(model, params, tmp_path):
    check_finite(params, "it")
    bad = {**params, "embed": params["embed"].at[3, 2].set(np.inf)}
    wanted = r"holds weights that are not finite \(NaN or infinity\), in embed\."
    run = Run(RunConfig(start="new:tiny"), TrainingConfig(), tmp_path, None, None, None)
    with pytest.raises(ValueError, match=wanted):
        export(run, model, bad)
    assert not (tmp_path / "model").exists()
    with Checkpoints(tmp_path / "run", model=model) as checkpoints:
        checkpoints.save(1, new_state(bad, OPTIMIZER), force=True)
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    words = SimpleNamespace(vocab_size=model.config.vocab_size)
    _, load = load_start(str(tmp_path / "run"), words, mesh, dtype="float32", seed=0)
    with pytest.raises(ValueError, match=f"start is {tmp_path / 'run'}.*{wanted}"):
        load()


def test_counts_of_nothing_are_refused():
    for change in ({"every": 0}, {"keep": 0}):
        with pytest.raises(ValueError, match="give 1 or more"):
            CheckpointConfig(**change)


def test_a_description_that_is_written_late_is_waited_for(tmp_path, model, params, monkeypatch):
    """Orbax writes it in a thread of its own; sealed before that, a sound checkpoint is broken."""
    update = _MetadataStoreImpl.update

    def late(*arguments, **fields):
        time.sleep(0.5)
        update(*arguments, **fields)

    monkeypatch.setattr(_MetadataStoreImpl, "update", late)
    with Checkpoints(tmp_path / "run", CheckpointConfig(every=1), model) as checkpoints:
        checkpoints.save(1, new_state(params, OPTIMIZER))
    assert checksums.fault(tmp_path / "run" / "1") is None
    assert saved_model(tmp_path / "run") == model
