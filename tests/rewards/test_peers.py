"""`make test-peers` without any peer: its list, its pins, and that a wrong reward is found."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.peers import environments
from benchmarks.peers.rewards import __main__ as command

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs/howto/reward.md"


def test_every_loop_has_a_module_and_an_environment_with_pins() -> None:
    for module, (where, names) in command.LOOPS.items():
        path = Path(command.__file__).with_name(f"{module}.py")
        assert all(f'"{name}"' in path.read_text() for name in names)
        file = environments.HERE / "requirements" / str(environments.REQUIREMENTS[where])
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert all("==" in line for line in (*lines, *environments.ALONE.get(where, ())))


@pytest.mark.parametrize("where", sorted({where for where, _ in command.LOOPS.values()}))
def test_what_the_reward_itself_needs_is_in_every_environment(where: str) -> None:
    file = environments.HERE / "requirements" / str(environments.REQUIREMENTS[where])
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    pins = {
        canonicalize_name(name): version for name, _, version in (x.partition("==") for x in lines)
    }
    project = tomllib.loads((DOCUMENTED.parents[2] / "pyproject.toml").read_text())["project"]
    for needed in map(Requirement, project["dependencies"]):
        if needed.marker is None or needed.marker.evaluate({"python_version": environments.PYTHON}):
            assert needed.specifier.contains(pins[canonicalize_name(needed.name)]), str(needed)


def test_the_page_names_the_versions_that_are_run() -> None:
    pins: dict[str, str] = {}
    for where, _ in command.LOOPS.values():
        file = environments.HERE / "requirements" / str(environments.REQUIREMENTS[where])
        lines = [*file.read_text().splitlines(), *environments.ALONE.get(where, ())]
        pins |= dict(line.split("==") for line in lines if "==" in line)
    names = {"TRL": "trl", "Tunix": "google-tunix", "verl": "verl", "OpenRLHF": "openrlhf",
             "AReaL": "areal"}  # fmt: skip
    told = dict(
        re.findall(r"(TRL|Tunix|verl|OpenRLHF|AReaL) (\d+\.\d+\.\d+)", DOCUMENTED.read_text())
    )
    assert told == {name: pins[package] for name, package in names.items()}


def lines(*scores: list[float] | None) -> Iterator[dict[str, Any]]:
    return iter([{"error": "no"} if s is None else {"mean_scores": s} for s in scores])


@pytest.mark.parametrize(
    ("rewards", "scores", "wrong"),
    [
        ([[3.0, 9.0], [1.0]], [[3.0, 9.0], [1.0]], 0),
        # Trainers keep them as float32.
        ([[2.6666667461395264]], [[8 / 3]], 0),
        ([[None, None]], [None], 0),
        ([[3.0, 9.0], [1.0]], [[3.0, 9.0], [2.0]], 1),
        ([[9.0, 3.0]], [[3.0, 9.0]], 1),
        ([[0.0]], [None], 1),
        ([[None]], [[5.0]], 1),
        ([], [], 1),
    ],
)
def test_a_reward_that_is_not_the_score_is_found(
    tmp_path: Path, capsys, rewards: Any, scores: Any, wrong: int
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(rewards))
    assert command.compare("x", tmp_path, lines(*scores)) == wrong
    assert ("as grm judge has them" in capsys.readouterr().out) == (not wrong or not rewards)
