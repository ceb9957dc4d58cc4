"""Runs that train an adapter: what they keep, go on from and write, and that the base is frozen."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import pytest
from jax.sharding import SingleDeviceSharding
from safetensors.numpy import load_file

from grm_jax.data.config import BatchConfig, ItemsConfig
from grm_jax.judging.folder import load_model_folder
from grm_jax.judging.judge import Judge
from grm_jax.mesh import MeshConfig
from grm_jax.models import hf
from grm_jax.models.adapter import Adapter
from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf_config import config_from_hf
from grm_jax.models.hf_folder import ADAPTER, ADAPTER_WEIGHTS
from grm_jax.models.model import Model
from grm_jax.models.quantized import quantized
from grm_jax.presets import bundled
from grm_jax.text.messages import Example
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train import grpo, scalar, sft, spct
from grm_jax.train.checkpoint import load_params
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import (
    AdapterConfig,
    CheckpointConfig,
    ExportConfig,
    OptimizerConfig,
    RunConfig,
)
from grm_jax.train.stages.grpo import FilterConfig, GRPOConfig
from grm_jax.train.stages.scorer import ScalarConfig
from grm_jax.train.stages.sft import SFTConfig, StageConfig
from grm_jax.train.tracking import Tracker, read_metrics
from tests.devices import first_devices, one_device
from tests.train.pairs import Pair, change, read
from tests.train.test_spct import CONFIG

pytestmark = pytest.mark.slow  # all of them need a trained model

LORA = AdapterConfig(rank=2, alpha=4.0)
STEPS = {"first": 4, "second": 1}
SHARED = {
    "checkpoint": CheckpointConfig(every=2),
    "compute": ComputeConfig(mesh=MeshConfig(1, 1, 1)),
    "export": ExportConfig(max_new_tokens=16),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model folder of a few thousand numbers in bfloat16, with the bundled tokenizer."""
    folder = tmp_path_factory.mktemp("base") / "model"
    tokenizer = Tokenizer.load(bundled("tiny"))
    config = Gemma2Config(tokenizer.vocab_size, 2, 16, 16, 2, 1, 8, 8.0, 16, max_position=256)
    model = Model(config, dtype="bfloat16", param_dtype="bfloat16")
    params = jax.jit(model.init)(jax.random.key(1))
    templates = bundled("tiny") / "templates"
    hf.save_folder(model, params, folder, tokenizer=tokenizer, templates=templates)
    return folder


@pytest.fixture(scope="module")
def cfg(base, tmp_path_factory):
    rates = {"first": 0.05, "second": 1e-30}  # which is too small to change anything
    stages = {
        name: StageConfig(steps, optimizer=OptimizerConfig(rates[name], schedule="constant"))
        for name, steps in STEPS.items()
    }
    output = str(tmp_path_factory.mktemp("whole"))
    run = RunConfig(output, str(base), adapter=LORA)
    return Pair(run, SFTConfig(stages, batch=BatchConfig(8, 96), **SHARED))


@pytest.fixture(scope="module")
def whole(cfg):
    """The folder that a run wrote which nothing interrupted."""
    with one_device():
        folder = sft.run(*cfg)
    assert folder is not None
    return folder


def test_the_folder_is_an_adapter_in_pefts_layout_that_a_judge_loads(whole, base):
    names = {path.name for path in whole.iterdir()}
    assert {ADAPTER, ADAPTER_WEIGHTS, "tokenizer.json", "grm.json", "templates"} <= names
    assert not {"config.json", "model.safetensors"} & names
    settings = json.loads((whole / ADAPTER).read_text())
    assert settings["base_model_name_or_path"] == str(base)
    assert (settings["r"], settings["lora_alpha"]) == (2, 4)
    loaded, plain = Judge.load(whole).folder, load_model_folder(base)
    assert loaded.max_new_tokens == 16
    for name, weight in loaded.params["pairs"]["local"].items():
        same = np.array_equal(weight, plain.params["pairs"]["local"][name])
        assert same == name.endswith("norm"), name


def test_it_learns_and_the_second_stage_begins_where_the_first_ended(whole, base):
    losses = [row["train/loss"] for row in read_metrics(whole.parent / "first" / "metrics.jsonl")]
    assert len(losses) == STEPS["first"]
    assert losses[-1] < losses[0]
    tensors, kept = _tensors(whole), _kept(whole.parent / "first", base)
    assert {array.shape for array in tensors.values()} == {
        array.shape[1:] for array in jax.tree.leaves(kept)
    }
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    assert np.any(tensors[name])
    np.testing.assert_array_equal(tensors[name], kept["pairs"]["global"]["down"]["b"][0])


def test_only_the_adapter_and_its_moments_are_kept(whole):
    numbers = sum(x.size for x in _tensors(whole).values())
    step = whole.parent / "first" / "checkpoints" / str(STEPS["first"])
    tree = ocp.checkpointables_metadata(str(step)).metadata
    arrays = lambda name: [x for x in jax.tree.leaves(tree[name]) if hasattr(x, "shape")]  # noqa: E731
    assert sum(np.prod(x.shape) for x in arrays("params")) == numbers
    moments = sum(np.prod(x.shape) for x in arrays("rest"))
    assert 2 * numbers <= moments < 2 * numbers + 10


def _kept(stage, base):
    """The adapter in the newest checkpoint of a stage."""
    here = SingleDeviceSharding(jax.devices()[0])
    adapter = Adapter(Model(config_from_hf(base)[0]), LORA.rank, LORA.alpha)
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)  # noqa: E731
    return load_params(stage / "checkpoints", jax.tree.map(place, adapter.abstract()))


def _tensors(folder):
    return load_file(folder / ADAPTER_WEIGHTS)


def test_a_run_stopped_by_sigterm_ends_with_the_same_bits(whole, cfg, tmp_path, monkeypatch):
    again, written, log = change(cfg, output=str(tmp_path / "run")), [], Tracker.log

    def log_and_be_told(self, step, numbers, samples):
        log(self, step, numbers, samples)
        written.append(step)
        if len(written) == STEPS["first"] - 2:  # the step after it is under way
            os.kill(os.getpid(), signal.SIGTERM)

    with one_device():
        with monkeypatch.context() as patch:
            patch.setattr(Tracker, "log", log_and_be_told)
            assert sft.run(*again) is None
        assert sft.run(*again) == tmp_path / "run" / "model"
    for name in (ADAPTER_WEIGHTS, ADAPTER):
        assert (tmp_path / "run" / "model" / name).read_bytes() == (whole / name).read_bytes()
    for name in STEPS:
        before, after = (
            read_metrics(Path(folder) / name / "metrics.jsonl")
            for folder in (whole.parent, tmp_path / "run")
        )
        assert before == after


@pytest.mark.parametrize("weights", [None, "int8"])
def test_two_devices_train_the_same_adapter(cfg, tmp_path, weights, monkeypatch):
    """Each has half of every array of the adapter, and of the model, which may be in int8."""
    made = Mock(wraps=quantized)
    monkeypatch.setattr("grm_jax.train.adapter.quantized", made)
    # Adam divides a small gradient by its own size, noise and all; with a large eps it does not.
    smooth = OptimizerConfig(0.1, schedule="constant", eps=1.0)
    found = []
    for count in (1, 2):
        compute = ComputeConfig(mesh=MeshConfig(1, count, 1))
        stages = {"sft": StageConfig(2, optimizer=smooth)}
        output = str(tmp_path / str(count))
        with first_devices(count):
            changes = {"stages": stages, "compute": compute}
            adapter = replace(LORA, weights=weights)
            folder = sft.run(*change(cfg, output=output, adapter=adapter, **changes))
        losses = [
            row["train/loss"] for row in read_metrics(tmp_path / output / "sft/metrics.jsonl")
        ]
        found.append((losses, _tensors(folder)))
    assert made.call_count == (2 if weights else 0)
    (losses, tensors), (others, of_two) = found
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    for name, tensor in tensors.items():
        largest = np.abs(tensor).max()
        assert largest > 0, name
        np.testing.assert_allclose(of_two[name], tensor, rtol=0, atol=1e-4 * largest, err_msg=name)


@pytest.mark.big
def test_the_whole_of_spct_trains_adapters(tmp_path):
    """One on the other, all of the one model; the last is a meta RM with a head of its own."""
    path, output = tmp_path / "spct.yaml", tmp_path / "run"
    path.write_text(CONFIG)
    options = ["--adapter.rank", "2", "--adapter.alpha", "4"]
    with one_device():
        page = spct.run(*read("spct", "--config", str(path), "--output", str(output), *options))
        judge = Judge.load(output / "grpo" / "model", meta_rm=output / "meta_rm" / "model")
        verdict = judge(Example("What is 37+45?", ["82", "81"]), k=2)
    assert page == output / "index.html"
    assert len(verdict.judgments) == 2
    written = {stage: output / stage / "model" for stage in ("rft", "grpo", "meta_rm")}
    tensors = {stage: _tensors(folder) for stage, folder in written.items()}
    for stage, folder in written.items():
        settings = json.loads((folder / ADAPTER).read_text())
        assert settings["base_model_name_or_path"] == str(bundled("tiny-start"))
        assert settings["task_type"] == ("SEQ_CLS" if stage == "meta_rm" else "CAUSAL_LM")
        assert not (folder / "model.safetensors").exists()
    for before, after in (("rft", "grpo"), ("grpo", "meta_rm")):
        shared = tensors[before].keys() & tensors[after].keys()
        assert shared == tensors[before].keys()
        assert any(np.any(tensors[before][x] != tensors[after][x]) for x in shared)
    rows = read_metrics(output / "grpo" / "metrics.jsonl")
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)  # the reference has RFT's adapter
    assert max(row["sampling/logprob_drift"] for row in rows) < 1e-3


@pytest.mark.parametrize("weights", [None, "int8"])
def test_grpo_goes_on_with_the_adapter_and_its_reference_is_the_start(whole, tmp_path, weights):
    stage = GRPOConfig(
        items=(ItemsConfig(limit=8),),
        filter=FilterConfig(n=0),
        group=4,
        per_step=8,
        steps=2,
        slots=8,
        max_new_tokens=12,
        optimizer=OptimizerConfig(1e-2, schedule="constant"),
        **SHARED,
    )
    run = RunConfig(str(tmp_path / "grpo"), str(whole), adapter=replace(LORA, weights=weights))
    with one_device():
        folder = grpo.run(run, stage, lambda item, judged: [float(len(j.text)) for j in judged])
    rows = read_metrics(tmp_path / "grpo" / "metrics.jsonl")
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["kl"] > 1e-5  # the policy has moved, and the reference has not
    assert max(row["sampling/logprob_drift"] for row in rows) < 1e-3
    before, after = _tensors(whole), _tensors(folder)
    assert before.keys() == after.keys()
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    # It names the model, and not the adapter that it began with.
    assert (folder / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()


def test_a_scorer_is_an_adapter_with_a_head(whole, tmp_path):
    stage = ScalarConfig(
        items=(ItemsConfig(limit=24),),
        heldout_share=0.3,
        steps=2,
        batch=BatchConfig(4, 128),
        slots=8,
        **SHARED,
    )
    run = RunConfig(str(tmp_path / "bt"), str(whole), adapter=LORA)
    with one_device():
        folder = scalar.run(run, stage)  # which measures with the written folder
    assert folder is not None
    settings = json.loads((folder / ADAPTER).read_text())
    assert (settings["task_type"], settings["modules_to_save"]) == ("SEQ_CLS", ["score"])
    assert load_model_folder(folder).model.head == "scalar"
    assert (tmp_path / "bt" / "report.json").is_file()


def test_what_an_adapter_cannot_be_trained_for_is_a_sentence(whole, cfg, tmp_path):
    with pytest.raises(ValueError, match=r"new:tiny, random weights, and adapter\.rank is 2"):
        replace(cfg.run, start="new:tiny")
    with pytest.raises(ValueError, match=r"adapter\.rank is -1"):
        AdapterConfig(rank=-1)
    with pytest.raises(ValueError, match=r"adapter\.layers is 0"):
        AdapterConfig(layers=0)
    with pytest.raises(ValueError, match=r"adapter\.weights is int8, but adapter\.rank is 0"):
        AdapterConfig(weights="int8")
    output = {"output": str(tmp_path / "run")}
    other = change(cfg, **output, start=str(whole), adapter=AdapterConfig(rank=3))
    with one_device(), pytest.raises(ValueError, match="is an adapter of rank 2 and alpha 4"):
        sft.run(*other)
    unknown = change(cfg, output=str(tmp_path / "b"), adapter=replace(LORA, targets=("w",)))
    with one_device(), pytest.raises(ValueError, match="names w, but the matrices of this"):
        sft.run(*unknown)
    start = str(whole.parent / "first" / "checkpoints")
    kept = change(cfg, output=str(tmp_path / "c"), start=start, tokenizer=str(whole))
    with one_device(), pytest.raises(ValueError, match="give the folder `model` that the run has"):
        sft.run(*kept)
    stage = ScalarConfig(grow=1, items=(ItemsConfig(limit=24),), **SHARED)
    with one_device(), pytest.raises(ValueError, match=r"grow is 1, and adapter\.rank is 2"):
        scalar.run(RunConfig(str(tmp_path / "d"), str(whole), adapter=LORA), stage)
