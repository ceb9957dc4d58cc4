"""Whole runs: what they write, and that an interrupted run ends with the same bits."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from grm_jax.data.config import BatchConfig, Noise, SourceConfig
from grm_jax.judging.folder import bundled, load_model_folder
from grm_jax.mesh import MeshConfig
from grm_jax.models import hf
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.sharding import make_mesh
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train import loop
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import CheckpointConfig, ExportConfig, OptimizerConfig, RunConfig
from grm_jax.train.sft import run
from grm_jax.train.stages.sft import SFTConfig, StageConfig
from grm_jax.train.start import load_start
from grm_jax.train.tracking import Tracker, read_metrics
from tests.train.pairs import Pair, change, opened, read

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = str(bundled("tiny"))
STEPS = {"clean": 5, "noisy": 4}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model folder of a few thousand numbers with the bundled tokenizer."""
    folder = tmp_path_factory.mktemp("start") / "model"
    tokenizer = Tokenizer.load(TINY)
    model = Model(Gemma2Config(tokenizer.vocab_size, 2, 8, 16, 2, 1, 4, 4.0, 16, max_position=128))
    params = jax.jit(model.init)(jax.random.key(1))
    hf.save_folder(model, params, folder, tokenizer=tokenizer, templates=Path(TINY) / "templates")
    return folder


def on(mesh):
    return ComputeConfig(mesh=mesh)


@pytest.fixture(scope="module")
def make_config(start):
    def make(output, **changes):
        optimizer = OptimizerConfig(1e-2, warmup_steps=1)
        noisy = (SourceConfig(noise=Noise(0.5, 0.5, 0.5)),)
        settings = {
            "batch": BatchConfig(8, 96),
            "checkpoint": CheckpointConfig(every=2),
            "compute": on(MeshConfig(8, 1, 1)),
            "export": ExportConfig(max_new_tokens=64),
        }
        stages = {
            "clean": StageConfig(STEPS["clean"], optimizer=optimizer),
            "noisy": StageConfig(STEPS["noisy"], noisy, optimizer),
        }
        pair = Pair(RunConfig(str(output), str(start)), SFTConfig(stages, **settings))
        return change(pair, **changes)

    return make


@pytest.fixture(scope="module")
def whole(make_config, tmp_path_factory):
    """A run that nothing interrupted."""
    cfg = make_config(tmp_path_factory.mktemp("whole"))
    folder = run(*cfg)
    assert folder == Path(cfg.output) / "model"
    return cfg


def results(output):
    """All that a run must end with: every metric of every step, and the bytes of the weights."""
    output = Path(output)
    metrics = {name: read_metrics(output / name / "metrics.jsonl") for name in STEPS}
    return metrics, (output / "model" / "model.safetensors").read_bytes()


def test_a_run_records_every_step_and_learns(whole):
    metrics, _ = results(whole.output)
    for name, steps in STEPS.items():
        assert [row["step"] for row in metrics[name]] == list(range(1, steps + 1))
    losses = [row["train/loss"] for row in metrics["clean"]]
    assert losses[-1] < losses[0]
    assert metrics["noisy"][0]["train/loss"] < losses[0] - 0.05  # from where the first one ended


def test_the_exported_folder_is_what_a_judge_loads(whole):
    folder = load_model_folder(Path(whole.output) / "model")
    assert folder.max_new_tokens == 64
    assert folder.tokenizer.sha256 == Tokenizer.load(TINY).sha256
    assert folder.templates.grm.sections["prompt"] == "{conversation}\n{responses}\n{hint}"


def read_config(path, *overrides):
    """What `grm train sft --config PATH` makes of the file."""
    return read("sft", "--config", str(path), *overrides)


def test_the_resolved_config_makes_the_same_config(whole):
    again = read_config(Path(whole.output) / "config.yaml")
    assert json.dumps(again.settings()) == json.dumps(whole.settings())


def test_a_dotted_override_reaches_into_a_stage(whole):
    path = Path(whole.output) / "config.yaml"
    cfg = read_config(path, "--stages.noisy.optimizer.learning_rate", "0.25")
    assert cfg.cfg.stages["noisy"].optimizer.learning_rate == 0.25
    assert cfg.cfg.stages["clean"] == whole.cfg.stages["clean"]


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_ends_with_the_same_bits(
    whole, make_config, tmp_path, monkeypatch, capsys
):
    """In its second stage; tests/faults kills with SIGKILL."""
    cfg = make_config(tmp_path / "stopped")
    written, log = [], Tracker.log

    def log_and_be_told(self, step, numbers, samples):
        log(self, step, numbers, samples)
        written.append(step)
        if len(written) == STEPS["clean"] + 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log", log_and_be_told)
        before = signal.getsignal(signal.SIGTERM)
        assert run(*cfg) is None
        assert signal.getsignal(signal.SIGTERM) == before
    assert "Stopped after step 3 of 4 of the stage noisy" in capsys.readouterr().err
    assert not (tmp_path / "stopped" / "model").exists()
    assert run(*cfg) == tmp_path / "stopped" / "model"
    assert results(cfg.output) == results(whole.output)


def test_a_finished_run_is_not_trained_again(whole, monkeypatch):
    before = results(whole.output)
    monkeypatch.setattr(loop, "compile_step", lambda *args: pytest.fail("a step was asked for"))
    with pytest.raises(pytest.fail.Exception):
        run(*change(whole, output=whole.output + "-other"))  # the guard itself works
    monkeypatch.setattr(loop, "compile_step", lambda *args: None)
    run(*whole)
    assert results(whole.output) == before


def test_another_config_in_the_same_folder_is_refused(whole):
    noisy = replace(whole.cfg.stages["noisy"], steps=9)
    other = change(whole, seed=3, stages={**whole.cfg.stages, "noisy": noisy})
    with pytest.raises(ValueError, match="other settings") as caught:
        run(*other)
    assert "seed was 0 and is now 3" in str(caught.value)
    assert "stages.noisy.steps was 4 and is now 9" in str(caught.value)


@pytest.mark.slow
def test_what_does_not_change_the_result_may_change(whole):
    before = results(whole.output)
    run(*change(whole, checkpoint=CheckpointConfig(every=7), compute=on(MeshConfig(4, 2, 1))))
    run(*whole)
    assert results(whole.output) == before


@pytest.mark.slow
def test_a_run_starts_from_the_checkpoints_of_another(whole, make_config, tmp_path):
    """With a step too small to see; and bfloat16 comes out where it is asked for."""
    cfg = make_config(
        tmp_path / "next",
        start=str(Path(whole.output) / "noisy" / "checkpoints"),
        stages={"more": StageConfig(1, optimizer=OptimizerConfig(1e-30))},
        tokenizer=TINY,
        templates=TINY + "/templates",
        export=ExportConfig("bfloat16"),
    )
    folder = run(*cfg)
    assert folder is not None
    _, wanted = hf.load_folder(Path(whole.output) / "model")
    _, got = hf.load_folder(folder)
    assert got["embed"].dtype == "bfloat16"
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(a.dtype)), got, wanted)


def test_new_weights_follow_from_the_seed_and_fit_the_tokenizer():
    tokenizer, mesh = Tokenizer.load(TINY), make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    made = []
    for seed in (0, 0, 1):
        model, make = load_start("new:tiny", tokenizer, mesh, dtype="bfloat16", seed=seed)
        assert (model.dtype, model.config.vocab_size) == ("bfloat16", tokenizer.vocab_size)
        made.append(make()["embed"])
    assert made[0].dtype == "float32"
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_stages_shuffle_differently(whole):
    run, other = opened(whole), opened(change(whole, seed=1))
    assert run.seed_of("clean") not in (run.seed_of("noisy"), other.seed_of("clean"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "new:huge", "tokenizer": TINY}, "start is new:huge, but the sizes are 2b"),
        ({"start": "new:tiny"}, "has no tokenizer: give tokenizer"),
        ({"batch": BatchConfig(8, 256)}, r"batch\.length is 256, but the model reads at most 128"),
        ({"batch": BatchConfig(12, 96)}, "sequences is 12"),
        ({"compute": ComputeConfig(microbatches=3)}, "microbatches"),
        ({"compute": on(MeshConfig(1, 1, 8))}, "kv_heads"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(make_config, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(*make_config(tmp_path / "run", **changes))


def test_another_tokenizer_than_the_weights_had_is_refused(make_config, start, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    text = Path(TINY, "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text + "\n")
    with pytest.raises(ValueError, match="was trained with tokenizer"):
        run(*make_config(tmp_path / "run", tokenizer=str(other)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": {}}, "stages is empty"),
        ({"stages": {"a/b": StageConfig(1)}}, "stage name 'a/b'"),
        ({"stages": {"model": StageConfig(1)}}, "stage name 'model'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_values_out_of_range_are_refused(make_config, change, message):
    with pytest.raises(ValueError, match=message):
        make_config("unused", **change)


def test_stages_and_exports_of_nothing_are_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        StageConfig(0)
    with pytest.raises(ValueError, match="data is empty"):
        StageConfig(1, data=())
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        ExportConfig(max_new_tokens=0)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "train").glob("sft_*.yaml")))
def test_presets_are_configs(path):
    assert read_config(path).cfg.stages
