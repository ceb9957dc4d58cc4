"""A run's folder holds one run: the same config finds it again, another one is told apart."""

from dataclasses import replace

import pytest

from grm_jax.data.demonstrations import SourceConfig
from grm_jax.sharding import MeshConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.folder import claimed
from grm_jax.train.sft import SFTConfig, StageConfig


def claim(cfg: SFTConfig) -> None:
    with claimed(cfg, "grm train sft"):
        pass


def test_another_config_is_refused_and_another_mesh_is_not(tmp_path):
    cfg = SFTConfig(output=str(tmp_path / "run"), stages={"sft": StageConfig(steps=3)})
    claim(cfg)
    claim(replace(cfg, compute=ComputeConfig(mesh=MeshConfig(2, 1, 1))))
    with pytest.raises(ValueError, match="seed was 0 and is now 1"):
        claim(replace(cfg, seed=1))


def test_other_data_or_another_start_under_the_same_name_is_refused(tmp_path):
    data, start = tmp_path / "rows.jsonl", tmp_path / "start"
    start.mkdir()
    for path in (data, start / "model.safetensors"):
        path.write_text("1")
    stages = {"sft": StageConfig(3, (SourceConfig(str(data)),))}
    cfg = SFTConfig(output=str(tmp_path / "run"), start=str(start), stages=stages)
    claim(cfg)
    (start / "model.safetensors").write_text("2")
    with pytest.raises(ValueError, match="the files of start are not what they were"):
        claim(cfg)
    (start / "model.safetensors").write_text("1")
    claim(cfg)
    data.write_text("2")
    with pytest.raises(ValueError, match=r"the files of stages\.sft\.data\[0\]\.rows are not"):
        claim(cfg)
