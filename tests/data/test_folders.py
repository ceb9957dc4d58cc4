"""A folder gives the files that hold rows, and says which it left out."""

import json

import pytest

from grm_jax.data.sources import load_examples
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.samples import to_json
from grm_jax.text.messages import Example

ROW = json.dumps({"id": "r", "prompt": "q", "responses": ["a", "b"]}) + "\n"
JUDGED = Judgment(0, (0, 1), "p", "c", (1.0, 2.0), None, "t", 3, -1.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text(ROW)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/rows-checkpoint.jsonl", "._rows.jsonl", ".rows.jsonl", ".cache/x.jsonl",
        ".#rows.jsonl", "~$rows.csv", "__MACOSX/rows.jsonl", ".git/x.json", "dataset_info.json",
        "data/dataset_infos.json", "state.json", "config.json", "model.safetensors.index.json",
    ],
)  # fmt: skip
def test_what_programs_keep_for_themselves_is_left_out(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(ROW)
    source = load_examples(folder)
    assert [item.id for item in source] == ["r"]
    assert f"left out: {name} (" in source.mapping
    assert "\n" not in source.mapping


@pytest.mark.parametrize("name", ["rows.jsonl~", "#rows.jsonl#", ".rows.jsonl.swp", "rows.bak"])
def test_editors_copies_are_no_files_of_rows(folder, name):
    (folder / name).write_text(ROW)
    source = load_examples(folder)
    assert [item.id for item in source] == ["r"]
    assert "left out" not in source.mapping


def test_what_we_wrote_is_left_out(folder):
    example = Example("q", ["a", "b"], id="r")
    verdict = {"id": "r", "scores": [1, 2], "judgments": [{"sample": 0, "order": [], "scores": []}]}
    for name, line in {
        "samples.jsonl": json.dumps(to_json(Sampled(example, (JUDGED,)))),
        "verdicts.jsonl": json.dumps(verdict),
        "errors.jsonl": json.dumps(Refusal("r", "why").to_json()),
    }.items():
        (folder / "out").mkdir(exist_ok=True)
        (folder / "out" / name).write_text(f"{line}\n")
    (folder / "torn.jsonl").write_text('{"id": "r", "judg')
    (folder / "torn.jsonl.yaml").write_text("k: 1\n")
    (folder / "run").mkdir()
    (folder / "run" / "settings.yaml").write_text("k: 1\n")
    (folder / "run" / "report.json").write_text("{}")
    (folder / "run" / "rows.jsonl").write_text('{"id": "r", "value": [1]}\n')
    source = load_examples(folder)
    assert [item.id for item in source] == ["r"]
    assert source.mapping.endswith(
        "left out: out/errors.jsonl (written by grm), out/samples.jsonl (written by grm), "
        "out/verdicts.jsonl (written by grm), run/report.json (written by grm), "
        "run/rows.jsonl (written by grm) and 1 more."
    )
    with pytest.raises(ValueError, match=r"holds no file of the kinds .* left out: errors.jsonl"):
        load_examples(folder / "out")


def test_rows_of_others_that_look_like_ours_are_read(folder):
    (folder / "mine.jsonl").write_text(
        '{"id": "m", "error": "none", "prompt": "q", "response": "a", "judgments": [1]}\n'
    )
    assert [item.id for item in load_examples(folder)] == ["m", "r"]


def test_a_file_that_is_named_is_read_whatever_it_is(folder):
    path = folder / ".samples.jsonl"
    path.write_text(json.dumps(to_json(Sampled(Example("q", ["a"], id="s"), (JUDGED,)))))
    assert [item.id for item in load_examples(path)] == ["s"]


def test_a_link_to_nothing_is_told(folder):
    (folder / "gone.jsonl").symlink_to(folder / "nowhere.jsonl")
    source = load_examples(folder)
    assert [item.id for item in source] == ["r"]
    assert "gone.jsonl (no file, or a link to none)" in source.mapping
