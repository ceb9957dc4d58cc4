"""A stage is done when it was made from what it would be made from now."""

import json

import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.train.config import RunConfig
from grm_jax.train.rft import _is_of
from grm_jax.train.spct import _inputs, _is_there, _stamp
from grm_jax.train.stages import RFTConfig


def test_changed_data_of_a_stage_is_another_input(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("1")
    stage = RFTConfig(items=(ItemsConfig(str(rows)),))
    before = _inputs(RunConfig(), stage)
    assert _inputs(RunConfig(), stage) == before
    rows.write_text("2")
    after = _inputs(RunConfig(), stage)
    assert [name for name in before if before[name] != after[name]] == ["files"]


def test_other_inputs_make_a_stage_anew_and_keep_the_old_one(tmp_path):
    folder = tmp_path / "rft"
    inputs = {"config": {"k": (1, 2)}, "files": {"items[0].source": "a"}}
    assert not _is_there(folder, inputs)
    assert not _is_there(folder, inputs)  # begun, and not done
    _stamp(folder, seconds=1.0, done=True)
    assert _is_there(folder, inputs)
    assert not _is_there(folder, inputs | {"files": {"items[0].source": "b"}})
    assert json.loads((tmp_path / "rft.1" / "stage.json").read_text())["done"]


def test_a_stage_of_an_earlier_version_stays_done(tmp_path):
    folder = tmp_path / "rft"
    _is_there(folder, {"config": {"k": 1}})
    _stamp(folder, seconds=1.0, done=True)
    assert _is_there(folder, {"config": {"k": 1}, "files": {"items[0].source": "a"}})
    assert not _is_there(folder, {"config": {"k": 2}, "files": {}})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"done": true}'])
def test_a_damaged_stamp_is_told(content, tmp_path):
    folder = tmp_path / "rft"
    _is_there(folder, {})
    (folder / "stage.json").write_text(content)
    with pytest.raises(ValueError, match=r"stage\.json is empty or damaged"):
        _is_there(folder, {})


def test_a_report_of_other_items_is_not_taken_for_this_ones(tmp_path):
    report = tmp_path / "report.json"
    assert not _is_of(report, "a")
    report.write_text(json.dumps({"data": "a", "items": 3}))
    assert _is_of(report, "a")
    with pytest.raises(ValueError, match="is of other items than there are now"):
        _is_of(report, "b")
    report.write_text(json.dumps({"items": 3}))
    assert _is_of(report, "b")  # an earlier version's, which does not say
