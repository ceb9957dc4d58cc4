"""A --help and a typo are answered at once: nothing that is slow to import is imported for them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from grm_jax.cli import RUN, SUMMARY
from grm_jax.cli.commands import OPTIONS

SLOW = {"jax", "flax", "optax", "orbax", "grain", "datasets", "transformers", "pyarrow",
        "matplotlib", "scipy", "openai", "torch"}  # fmt: skip
HELPS = [["--help"], ["--version"]] + [
    [*command.split(), *own, "--help"]
    for command, options in OPTIONS.items()
    for own in ([[], *([name] for name in options)] if isinstance(options, dict) else [[]])
]
TYPOS = {
    "jugde": "there is no command 'jugde'. Did you mean judge?",
    "judge --modle x": "there is no option --modle. Did you mean --model?",
    "judge --meta-mr x": "there is no option --meta_mr. Did you mean --meta_rm?",
    "judge --strategy.temprature=1": "Did you mean --strategy.temperature?",
    "judge --k many": "k is 'many'; give a whole number.",
    "judge --config typo.yaml": "typo.yaml:1: there is no option sede. Did you mean seed?",
    "eval --input both": "input is 'both'; give one of 'list', 'pair'.",
    "experiment scalign": "Did you mean scaling?",
    "experiment scaling --limti 3": "there is no option --limti. Did you mean --limit?",
    "data math-pairs --config math_pears": "Did you mean math_pairs?",
    "aot --program rft-stop": "program is 'rft-stop'; give one of rft-step,",
}
RUN_ALL = """
import contextlib, io, json, sys
from grm_jax.cli import main
for arguments in json.load(sys.stdin):
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            status = main(arguments)
        except SystemExit as stop:  # of argparse, after a help
            status = stop.code
    print(json.dumps([arguments, status, told.getvalue(), sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, tuple[int, str, list[str]]]:
    """By command: the status, what was printed, and the modules that are loaded then."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "typo.yaml").write_text("sede: 1\n")
    asked = HELPS + [typo.split() for typo in TYPOS]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    lines = map(json.loads, done.stdout.splitlines())
    return {" ".join(arguments): tuple(rest) for arguments, *rest in lines}


@pytest.mark.parametrize("command", [" ".join(help_) for help_ in HELPS])
def test_a_help_starts_no_slow_library(command: str, answers) -> None:
    status, told, modules = answers[command]
    assert status == 0
    assert told.startswith(("usage: grm ", "grm"))
    assert {module.partition(".")[0] for module in modules} & SLOW == set()


@pytest.mark.parametrize(("command", "says"), TYPOS.items())
def test_a_typo_starts_none_either_and_what_was_meant_is_said(
    command: str, says: str, answers
) -> None:
    status, told, modules = answers[command]
    assert status == 2
    assert says in told
    assert {module.partition(".")[0] for module in modules} & SLOW == set()


def test_every_command_has_a_summary_options_and_something_that_runs_it() -> None:
    assert set(OPTIONS) == set(RUN) == {*SUMMARY, "aot matrix", "aot cost"}
