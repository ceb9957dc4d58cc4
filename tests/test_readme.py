"""What the README says to type works as it is written.

Where a command would take minutes, or rows from the hub, RUNS has the few options that make it
small; each of the README's commands must be there, or in OTHERS with the reason why it is not run.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from grm_jax import presets
from grm_jax.cli import main
from grm_jax.rewards import JudgeReward
from tests.devices import one_device

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
CODE = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.M | re.S)

EVAL = "eval --benchmark world --limit 4 --k 2 --model path/to/folder"
# By the README's command: what is run, "" for the same. In this order: `compare` reads what the
# evaluations write. tests/cli/test_aot_command.py compiles a grpo-step.
RUNS = {
    "grm env": "",
    "grm judge --input rows.jsonl --output verdicts.jsonl --k 8": "",
    "grm table verdicts.jsonl verdicts.csv": "",
    "grm judge --model path/to/folder --templates my_templates": "",
    "grm eval --benchmark paper --model path/to/folder --k 32": f"{EVAL} --output runs/eval/A",
    "grm compare runs/eval/A runs/eval/B": "",
    "grm train spct --config spct_tiny": "train spct --config spct_tiny --grpo null --meta_rm null "
    "--rft.items '[{limit: 12}]' --rft.steps 2 --rft.optimizer.warmup_steps 0 "
    "--rft.batch.sequences 8 --evaluation.items '[{split: heldout, limit: 4}]' --evaluation.k 1 "
    "--evaluation.k_start 1",
    "grm data math-pairs --config math_pairs --model path/to/chat-model": "data math-pairs "
    "--config math_pairs --input problems.jsonl --model path/to/chat-model",
    "grm aot --preset 27b --topology v5p:4x4x4 --program grpo-step": "aot --preset tiny "
    "--topology v5e:2x2 --program meta-score --sequences 4 --length 128",
    "grm aot cost --preset 27b --chip h200 --price 3.5": "",
    "grm export --model runs/rft/model --output my-grm": "export --model path/to/folder "
    "--output my-grm",
    "grm experiment scaling --limit 1000 --strategy.temperature 1": "experiment scaling --limit 4 "
    "--strategy.temperature 1 --k 2 --models '[tiny]'",
}
OTHERS = {
    "make test": "runs this",
    "make test-all": "runs this",
    "make test-faults": "tests/faults",
    "make docs": "a part of `make test-all`",
    "make demo": "see test_the_demo",
    "make demo-real": "tests/judging/test_real_text.py; it downloads 98 MB",
    "grm data real --config real_data": "tests/data/real; the rows are from the hub",
    "grm judge --input gs://bucket/rows.jsonl --output gs://bucket/verdicts.jsonl": "tests/storage",
    "grm serve --model path/to/folder --k 8": "tests/serve/test_process.py",
}


def test_every_command_of_the_readme_is_run() -> None:
    typed = re.findall(r"`((?:grm|make) [^`]+)`", TEXT)
    typed += [
        line.partition("  #")[0].strip()
        for kind, block in CODE
        if kind != "python"
        for line in block.splitlines()
        if line.startswith(("grm ", "make "))
    ]
    assert set(typed) == {*RUNS, *OTHERS}


@pytest.fixture(scope="module", autouse=True)
def one() -> Iterator[None]:
    with one_device():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working directory in which everything is that the README's commands name."""
    at = tmp_path_factory.mktemp("readme")
    rows = [{"prompt": f"What is {a}+{a}?", "responses": [str(2 * a), "7"]} for a in (12, 30)]
    (at / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problem = {
        "problem": "What is 1+1?",
        "solution": "\\boxed{2}",
        "answers": ["It is \\boxed{2}.", "It is \\boxed{3}."],
    }
    (at / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    (at / "path" / "to").mkdir(parents=True)
    shutil.copytree(presets.bundled("tiny"), at / "path" / "to" / "folder")
    shutil.copytree(presets.bundled("tiny") / "templates", at / "my_templates")
    return at


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS)
def test_a_command(command: str, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    arguments = shlex.split(RUNS[command] or command.removeprefix("grm "))
    if arguments[0] == "compare":
        assert main(shlex.split(f"{EVAL} --output runs/eval/B --seed 1")) == 0
    assert main(arguments) == 0


@pytest.mark.slow
def test_the_demo(folder: Path, monkeypatch) -> None:
    """`make demo` sets up an environment, which the tests have, and runs one command."""
    recipe = re.search(r"^demo:.*\n\t\$\(BIN\)/grm (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    monkeypatch.chdir(folder)
    assert main(recipe[1].split()) == 0


@pytest.mark.slow
def test_the_lines_of_python() -> None:
    """As they stand; and the reward of the table, with that judge."""
    (block,) = [block for kind, block in CODE if kind == "python"]
    names: dict = {"JudgeReward": JudgeReward}
    exec(block, names)
    assert names["verdict"].best == 0
    (reward,) = re.findall(r"`reward_funcs=([^`]+)`", TEXT)
    completions = ["82", "81", "90"]
    assert len(eval(reward, names)(["What is 37+45?"] * 3, completions)) == 3
