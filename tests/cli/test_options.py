"""A wrong option: the error begins with what is wrong, and shows nothing else that was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from grm_jax.cli import main
from grm_jax.cli.renamed import renamed


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
        ("eval --mesh.init_args 1", "there is no option init_args."),
        ('eval --mesh {"init_args":null}', "there is no option init_args."),
        ('eval --mesh={"class_path":null}', "there is no option class_path."),
        ("eval --input both", "input is 'both'; give one of 'list', 'pair'."),
        ("eval --reference maybe", "reference is 'maybe'; give true or false."),
        ("eval --endpoint.url http://h/v1", "endpoint.model is needed and not given."),
        (
            "eval --endpoint.url http://h/v1 --endpoint.model m --endpoint.retries -1",
            "retries is -1; give 0 (none) or more.",
        ),
        ("train rft --batch.sequences 0", "batch.sequences is 0; give 1 or more."),
        ("judge --config missing.yaml", "there is no file missing.yaml (looked from "),
        ("judge --config folder", "folder is a folder: name a YAML file of options in it."),
        ("judge --config empty.yaml", "empty.yaml holds nothing: write one option per line"),
        ("judge --config list.yaml", "list.yaml holds no options: write one option per line"),
        ("judge --config bytes.yaml", "bytes.yaml is not UTF-8 text (invalid start byte)"),
        ("judge --config broken.yaml", "broken.yaml:2 is not YAML: mapping values are not allowed"),
        ("judge --config deep.yaml", "deep.yaml cannot be read as YAML: "),
        ("judge --config itself.yaml", "itself.yaml:1: an alias here stands for itself, or for"),
        ("judge --config doubled.yaml", "doubled.yaml:14: an alias here stands for itself, or for"),
        ("eval --config tagged.yaml", "tagged.yaml:2: 'x' is no timestamp: mend it, or quote it"),
        ("eval --config flag.yaml", "flag.yaml:1: 'x' is no bool: mend it, or quote it if it is"),
        (
            "eval --config blank.yaml",
            "blank.yaml:1: a name is wanted before the colon, and not a v",
        ),
        ("eval --config number.yaml", "number.yaml:2: a name is wanted before the colon, and not"),
        ("eval --config date.yaml", "date.yaml:1: '2020-99-99' is no timestamp: mend it, or quote"),
        ("judge --config null.yaml", "null.yaml:1: k is empty (null): leave it out, or give a"),
        (
            "train rft --config single.yaml",
            "single.yaml:1: batch is 8, but it is a group of options",
        ),
        ("eval --config listed.yaml", "listed.yaml:1: mesh is a group of options: write each on"),
        ("eval --config odd.yaml", "odd.yaml:2: there is no option class_path."),
        ("eval --config inits.yaml", "inits.yaml:2: there is no option init_args."),
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
        "single": b"batch: 8\n",
        "listed": b"mesh: [1]\n",
        "odd": b"endpoint:\n  class_path:\n    steps: null\n",
        "inits": b"mesh:\n  init_args: null\n",
        "inner": b"meta_rm:\n  optimizer: null\n",
        "itself": b"&a {k: *a}\n",
        "doubled": b"a0: &a0 1\n"
        + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 30)),
        "tagged": b"seed: 1\nk: !!timestamp x\n",
        "flag": b"k: !!bool x\n",
        "blank": b"?",
        "number": b"mesh:\n  1: 2\n",
        "date": b"k: 2020-99-99\n",
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


@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        ("judge --rows 8", "--rows", "--slots"),
        ("eval --rows=8", "--rows", "--slots"),
        ("data math-pairs --input x --rows 8", "--rows", "--slots"),
        ("experiment scaling --rows 8", "--rows", "--slots"),
        ('experiment judges --judges {"a":{"rows":8}}', "--judges.a.rows", "--judges.a.slots"),
        ("aot --rows 8", "--rows", "--sequences"),
        ("train rft --batch.rows 8", "--batch.rows", "--batch.sequences"),
        ("train grpo --batch 8", "--batch", "--per_step"),
        ("train grpo --batch_unit prompts", "--batch_unit", "--per_step_unit"),
        ("train spct --grpo.batch 8", "--grpo.batch", "--grpo.per_step"),
        ('train rft --items [{"rows":"x"}]', "--items.rows", "--items.source"),
    ],
)
def test_an_option_of_before_is_called_by_its_new_name(arguments, old, new, capsys) -> None:
    command, *rest = arguments.split()
    assert main([command, *rest]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"grm {command}: there is no option {old} any more: it is {new} now.\n")


@pytest.mark.parametrize(
    ("command", "content", "line", "old", "new"),
    [
        ("judge", "k: 1\nrows: 8\n", 2, "rows", "slots"),
        ("data math-pairs", "input:\n- {rows: x}\n", 2, "input.rows", "input.source"),
        ("train sft", "stages: {a: {data: [{rows: x}]}}\n", 1, "stages.a.data.rows", "..source"),
        ("train rft", "general: [{rows: x}]\n", 1, "general.rows", "general.source"),
        ("train rft", "judge: {rows: 8}\n", 1, "judge.rows", "judge.slots"),
        ("train rft", "batch: {rows: 8}\n", 1, "batch.rows", "batch.sequences"),
        ("train grpo", "rows: 8\n", 1, "rows", "slots"),
        ("train grpo", "batch: 8\n", 1, "batch", "per_step"),
        ("train scalar", "rows: 8\n", 1, "rows", "slots"),
        ("train spct", "grpo:\n  batch: 8\n", 2, "grpo.batch", "grpo.per_step"),
        ("train spct", "grpo: {batch_unit: prompts}\n", 1, "grpo.batch_unit", "..per_step_unit"),
        (
            "train spct",
            "grpo: {filter: {judge: {rows: 8}}}\n",
            1,
            "grpo.filter.judge.rows",
            "..slots",
        ),
        ("train spct", "evaluation: {rows: 8}\n", 1, "evaluation.rows", "evaluation.slots"),
        (
            "train spct",
            "rft: {items: &a [{rows: x}]}\nmeta_rm: {items: *a}\n",
            1,
            "rft.items.rows",
            "..source",
        ),
        ("aot matrix", "groups: [{rows: 8}]\n", 1, "groups.rows", "groups.sequences"),
    ],
)
def test_a_setting_of_before_is_called_by_its_new_name(
    command, content, line, old, new, tmp_path: Path, capsys
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(content)
    assert main([*command.split(), "--config", str(path)]) == 2
    new = new.replace("..", f"{old.rpartition('.')[0]}.")
    told = f"{path}:{line}: there is no option {old} any more: it is {new} now.\n"
    assert told in capsys.readouterr().err


def test_what_is_no_option_of_before_is_left_to_the_parser(tmp_path: Path) -> None:
    """Of RFT `batch` is a shape; a judge may be called "rows"; `grm compare` decodes nothing."""
    (tmp_path / "judges.yaml").write_text("judges: {rows: {model: tiny, kk: 1}}\nbatch: 8\n")
    assert renamed([tmp_path / "judges.yaml"], ["judges"], "experiment", []) is None
    assert renamed([], ["rft", "--batch", "8"], "train", ["--slots"]) is None
    assert renamed([], ["--rows", "8"], "compare", ["--a"]) is None
    assert renamed([], ["--items", "[" * 5000], "train rft", []) is None
