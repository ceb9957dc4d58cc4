"""A run's folder holds one run: the same config finds it again, another one is told apart."""

from dataclasses import replace

import pytest

from grm_jax.data.config import SourceConfig
from grm_jax.mesh import MeshConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.config import RunConfig
from grm_jax.train.folder import run_folder
from grm_jax.train.stages.sft import SFTConfig, StageConfig


def claim(run: RunConfig, cfg: SFTConfig) -> None:
    with run_folder("grm train sft", run.output, run, cfg):
        pass


def test_another_config_is_refused_and_another_mesh_is_not(tmp_path):
    run, cfg = RunConfig(str(tmp_path / "run")), SFTConfig({"sft": StageConfig(steps=3)})
    claim(run, cfg)
    claim(run, replace(cfg, compute=ComputeConfig(mesh=MeshConfig(2, 1, 1))))
    with pytest.raises(ValueError, match="seed was 0 and is now 1"):
        claim(replace(run, seed=1), cfg)


def test_other_data_or_another_start_under_the_same_name_is_refused(tmp_path):
    data, start = tmp_path / "rows.jsonl", tmp_path / "start"
    start.mkdir()
    for path in (data, start / "model.safetensors"):
        path.write_text("1")
    stages = {"sft": StageConfig(3, (SourceConfig(str(data)),))}
    run, cfg = RunConfig(str(tmp_path / "run"), str(start)), SFTConfig(stages)
    claim(run, cfg)
    (start / "model.safetensors").write_text("2")
    with pytest.raises(ValueError, match="the files of start are not what they were"):
        claim(run, cfg)
    (start / "model.safetensors").write_text("1")
    claim(run, cfg)
    data.write_text("2")
    with pytest.raises(ValueError, match=r"the files of stages\.sft\.data\[0\]\.source are not"):
        claim(run, cfg)
