"""Where a model comes from: a path, or an id on the hub."""

from pathlib import Path

import pytest

from grm_jax.models.hf import load_folder
from grm_jax.text.tokenizer import Tokenizer
from tests.models.folders import assert_same_bits


def test_what_looks_like_a_path_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    for name in ("./missing", "../missing", "/missing", "~/missing", "runs/missing/model"):
        with pytest.raises(FileNotFoundError, match="There is no model folder"):
            load_folder(name)
        with pytest.raises(FileNotFoundError, match="there is no tokenizer at"):
            Tokenizer.load(name)
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(ValueError, match=r"model\.bin is a file: give the folder"):
        load_folder(tmp_path / "model.bin")


def test_a_name_that_may_be_both_is_told_what_lies_beside_it(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder runs/stf .*; runs holds sft"):
        load_folder("runs/stf")


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"name resolution failed.*give the local folder"):
        load_folder("google/gemma-2-2b")


def test_a_hub_id_is_downloaded(exported, monkeypatch):
    import huggingface_hub

    folder, _, params = exported
    asked = []

    def download(repo_id, allow_patterns):
        asked.append(repo_id)
        names = [p.name for p in folder.iterdir()]
        assert all(any(Path(n).match(p) for p in allow_patterns) for n in names)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_same_bits(params, load_folder("someone/gemma")[1])
    assert asked == ["someone/gemma"]
