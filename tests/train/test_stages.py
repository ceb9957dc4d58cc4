"""A stage is done when it was made from what it would be made from now."""

import json

import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.train.config import RunConfig
from grm_jax.train.spct import stage_inputs
from grm_jax.train.stages.rft import RFTConfig
from grm_jax.train.stamp import is_made, stamp


def test_changed_data_of_a_stage_is_another_input(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("1")
    stage = RFTConfig(items=(ItemsConfig(str(rows)),))
    before = stage_inputs(RunConfig(), stage)
    assert stage_inputs(RunConfig(), stage) == before
    rows.write_text("2")
    after = stage_inputs(RunConfig(), stage)
    assert [name for name in before if before[name] != after[name]] == ["files"]


def test_other_inputs_make_a_stage_anew_and_keep_the_old_one(tmp_path):
    folder = tmp_path / "rft"
    inputs = {"config": {"k": (1, 2)}, "files": {"items[0].source": "a"}}
    assert not is_made(folder, inputs)
    assert not is_made(folder, inputs)  # begun, and not done
    stamp(folder, seconds=1.0, done=True)
    assert is_made(folder, inputs)
    assert not is_made(folder, inputs | {"files": {"items[0].source": "b"}})
    assert json.loads((tmp_path / "rft.1" / "stage.json").read_text())["done"]


def test_a_stage_of_an_earlier_version_stays_done(tmp_path):
    folder = tmp_path / "rft"
    is_made(folder, {"config": {"k": 1}})
    stamp(folder, seconds=1.0, done=True)
    assert is_made(folder, {"config": {"k": 1}, "files": {"items[0].source": "a"}})
    assert not is_made(folder, {"config": {"k": 2}, "files": {}})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"done": true}'])
def test_a_damaged_stamp_is_told(content, tmp_path):
    folder = tmp_path / "rft"
    is_made(folder, {})
    (folder / "stage.json").write_text(content)
    with pytest.raises(ValueError, match=r"stage\.json is empty or damaged"):
        is_made(folder, {})
