"""A wrong option: the error begins with what is wrong, and shows nothing else that was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from grm_jax.cli import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("judge --k 0", "k is 0; a verdict needs at least one sample."),
        ("judge --k abc", "k is 'abc'; give a whole number."),
        ("judge --limit x", "limit is 'x'; give a whole number."),
        ("judge --strategy.temperature -1", "temperature is -1.0; give 0 (greedy) up to 100."),
        ("judge --strategy.temperature x", "strategy.temperature is 'x'; give a number."),
        ("judge --mesh.data q", "mesh.data is 'q'; give a whole number."),
        ("judge --kk 1", "there is no option --kk."),
        ("eval --input both", "input is 'both'; give one of 'list', 'pair'."),
        ("eval --reference maybe", "reference is 'maybe'; give true or false."),
        ("eval --endpoint.url http://h/v1", "endpoint.model is needed and not given."),
        (
            "eval --endpoint.url http://h/v1 --endpoint.model m --endpoint.retries -1",
            "retries is -1; give 0 (none) or more.",
        ),
        ("train rft --batch.rows 0", "batch.rows is 0; give 1 or more."),
        ("judge --config missing.yaml", "there is no file missing.yaml (looked from "),
        ("judge --config folder", "folder is a folder: name a YAML file of options in it."),
        ("judge --config empty.yaml", "empty.yaml holds nothing: write one option per line"),
        ("judge --config list.yaml", "list.yaml holds no options: write one option per line"),
        ("judge --config bytes.yaml", "bytes.yaml is not UTF-8 text (invalid start byte)"),
        ("judge --config broken.yaml", "broken.yaml:2 is not YAML: mapping values are not allowed"),
        ("judge --config deep.yaml", "deep.yaml cannot be read as YAML: "),
        ("judge --config itself.yaml", "itself.yaml:1: an alias here stands for itself, or for"),
        ("judge --config doubled.yaml", "doubled.yaml:14: an alias here stands for itself, or for"),
        ("judge --config null.yaml", "null.yaml:1: k is empty (null): leave it out, or give a"),
        ("train spct --config inner.yaml", "inner.yaml:2: meta_rm.optimizer is empty (null): "),
        ("judge --config typo.yaml", "typo.yaml:3: there is no option kk."),
        ("judge --config type.yaml", "type.yaml:4: strategy.temperature is 'warm'; give a number."),
    ],
)
def test_an_error_begins_with_what_is_wrong(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name, content in {
        "empty": b"",
        "list": b"- 1\n",
        "bytes": b"k: \xff",
        "broken": b"k: 1\n  - x: [\n",
        "deep": b"[" * 5000,
        "null": b"k: null\n",
        "inner": b"meta_rm:\n  optimizer: null\n",
        "itself": b"&a {k: *a}\n",
        "doubled": b"a0: &a0 1\n"
        + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 30)),
        "typo": b"k: 1\n\nkk: 2\n",
        "type": b"k: 1\nstrategy:\n  top_k: 0\n  temperature: warm\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    command, *rest = arguments.split()
    assert main([command, *rest]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"grm {command}: {sentence}")
    assert f"`grm {command} --help` lists the options." in told
    assert "Namespace" not in told
    assert "Traceback" not in told
