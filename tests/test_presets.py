"""Presets, templates and bundled models are found by name: in a checkout, in a wheel, anywhere."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from grm_jax import cli, presets
from grm_jax.judging.meta import MetaRM
from grm_jax.text.prompts import load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.start import start_templates

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
PRESETS = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*.yaml"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", PRESETS)
def test_every_preset_is_found_by_its_name_in_any_folder(elsewhere, path):
    kind, name = path.removesuffix(".yaml").split("/")
    for spelled in (name, f"{name}.yaml", f"configs/{path}"):
        assert Path(presets.find(kind, spelled)).samefile(CONFIGS / path)


def test_a_path_that_is_there_goes_before_a_name(elsewhere):
    mine = elsewhere / "spct_tiny"
    mine.mkdir()
    assert presets.find("train", "spct_tiny") != "spct_tiny", "a folder is no preset"
    mine.rmdir()
    mine.write_text("{}")
    for given in ("spct_tiny", str(mine), "./spct_tiny", "other/spct_tiny.yaml", "{k: 1}", "null"):
        assert presets.find("train", given) == given


@pytest.mark.parametrize(
    ("command", "arguments", "kind", "place"),
    [
        ("train", ["spct", "--config", "spct_tiny", "--seed", "1"], "train/spct_tiny", 2),
        ("train", ["spct", "--config=spct_tiny.yaml"], "train/spct_tiny", 1),
        ("train", ["spct", "--grpo.compute.mesh", "grpo"], "mesh/grpo", 2),
        ("train", ["rft", "--compute.mesh", "train"], "mesh/train", 2),
        ("judge", ["--input", "train", "--mesh=decode_8"], "mesh/decode_8", 2),
        ("experiment", ["judges", "--config", "judges_tiny"], "experiments/judges_tiny", 2),
        ("aot matrix", ["--config", "paper"], "aot/paper", 1),
    ],
)
def test_an_option_that_takes_a_preset_takes_its_name(elsewhere, command, arguments, kind, place):
    found = presets.by_name(command, arguments)
    option, equals, value = found[place].rpartition("=")
    assert option + equals == (arguments[place].rpartition("=")[0] + equals)
    assert Path(value).samefile(CONFIGS / f"{kind}.yaml")
    assert [*found[:place], *found[place + 1 :]] == [*arguments[:place], *arguments[place + 1 :]]


@pytest.mark.parametrize("option", ["--mesh.data=2", "--output=train", "--meshes", "--model", "-k"])
def test_other_options_are_left_as_they_are(elsewhere, option):
    assert presets.by_name("train", [option, "spct_tiny"]) == [option, "spct_tiny"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["train", "spct", "--config", "spct_tinny"],
            ["'spct_tinny'", "Did you mean spct_tiny?", "sft_tiny"],
        ),
        (["judge", "--mesh", "decode8"], ["'decode8'", "Did you mean decode_8", "train_2_slices"]),
        (["train", "spct", "--config", "decode_8"], ["'decode_8'", "The presets are bt_tiny"]),
    ],
)
def test_a_name_of_no_preset_is_told_with_the_nearest(elsewhere, capsys, arguments, said):
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert all(words in told for words in said), told


def test_templates_and_tokenizers_are_found_by_name_too(elsewhere):
    shown = CONFIGS / "templates" / "tiny_shown"
    for spelled in ("tiny_shown", "configs/templates/tiny_shown", str(shown)):
        found = start_templates("tiny-start", spelled)
        assert found is not None
        assert found.samefile(shown)
        sections = load_templates(spelled).grm.sections
        assert sections == load_templates(shown).grm.sections
    assert presets.templates("tiny_shown/no_principles").samefile(shown / "no_principles")
    assert presets.templates("tiny").samefile(presets.bundled("tiny") / "templates")
    (elsewhere / "tiny_shown").mkdir()
    assert presets.templates("tiny_shown") == Path("tiny_shown")
    with pytest.raises(FileNotFoundError, match="no_such; those that come along are json"):
        load_templates("no_such")
    assert Tokenizer.load("tiny").sha256 == Tokenizer.load(presets.bundled("tiny")).sha256


def test_an_installed_package_has_them_all(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        wheel.extractall(tmp_path / "site")
    asked = (
        "import json; from grm_jax import presets;"
        f"print(json.dumps([presets.find(*p[:-5].split('/')) for p in {PRESETS}]"
        " + [str(presets.templates('tiny_shown')), str(presets.bundled('tiny'))]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(path).relative_to(tmp_path / "site") for path in json.loads(found.stdout)]
    inside = [f"grm_jax/configs/{path}" for path in (*PRESETS, "templates/tiny_shown")]
    assert [path.as_posix() for path in paths] == [*inside, "grm_jax/assets/tiny"]


def test_every_preset_that_a_text_names_is_there():
    """In the README, in docs/, in launch/, in the presets' own comments, in errors and help."""
    texts = [ROOT / "README.md", *(ROOT / "launch").glob("*.*"), *CONFIGS.glob("*/*.yaml")]
    texts += (*(ROOT / "docs").rglob("*.md"), *(ROOT / "grm_jax").rglob("*.py"))
    known = {path.removesuffix(".yaml").split("/")[-1] for path in PRESETS}
    named = re.compile(r"--(?:config|[\w.]*mesh)[ =]([a-z][\w./]*)|(configs/\w+/\w+\.yaml)")
    found = [
        (path.name, match[1] or match[2])
        for path in texts
        for line in path.read_text().splitlines()
        if "grm " in line or "configs/" in line
        for match in named.finditer(line)
    ]
    assert len(found) > 40
    for text, name in found:
        assert Path(name).name.removesuffix(".yaml") in known, (text, name)
        assert "/" not in name or (ROOT / name).is_file(), (text, name)


def test_a_bundled_model_that_is_not_there_yet_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "PACKAGE", tmp_path)
    missing = r"smol-meta has not been trained yet.*howto/real\.md"
    with pytest.raises(FileNotFoundError, match=missing):
        MetaRM.load("smol-meta")
