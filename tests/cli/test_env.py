"""`grm env`: what is there, what is missing and how to get it, and a card that JAX does not use."""

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import jax
import pytest
from packaging.requirements import Requirement

from grm_jax import __version__
from grm_jax.cli import env, main

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHERS = {"docs", "dev"}  # extras for those who work on the package


def test_the_extras_are_those_of_the_package() -> None:
    wanted = {
        extra: {Requirement(one).name for one in needs}
        for extra, needs in PROJECT["optional-dependencies"].items()
        if extra not in OTHERS
    }
    # Of jax[cuda13] and jax[tpu] what matters is what these bring.
    wanted |= {"cuda": {"jax-cuda13-plugin"}, "cuda12": {"jax-cuda12-plugin"}, "tpu": {"libtpu"}}
    assert {extra: set(names) for extra, names in env.EXTRAS.items()} == wanted


def test_the_cuda_extras_admit_the_versions_that_are_tested() -> None:
    """The exact versions, for every Python, are in constraints.txt."""
    pins = re.findall(r"^jax==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert len(pins) == 2
    for extra in ("cuda", "cuda12"):
        (need,) = map(Requirement, PROJECT["optional-dependencies"][extra])
        assert (need.name, need.extras) == (
            "jax",
            {"cuda": {"cuda13"}, "cuda12": {"cuda12"}}[extra],
        )
        assert all(pin in need.specifier for pin in pins)
        bounds = {one.operator for one in need.specifier}
        assert bounds == {">=", "<"}


def test_it_says_what_there_is(capsys, monkeypatch) -> None:
    monkeypatch.setattr(env, "nvidia_cards", list)
    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["grm_jax"]["version"] == __version__
    assert facts["libraries"]["jax"] == version("jax")
    assert facts["devices"] == [
        {"platform": "cpu", "kind": "cpu", "count": 8, "memory_bytes": None}
    ]
    assert facts["runs_on"]["train"] == "CPU: 8 devices, mesh data=1 fsdp=8 tensor=1"
    assert facts["runs_on"][env.ONE] == "CPU: 1 of 8 devices"
    assert facts["models"].keys() == {"tiny-start", "tiny", "tiny-meta", "smol-start", "smol"}
    assert min(facts["models"].values()) > 100_000
    assert facts["notes"] == []
    assert main(["env"]) == 0
    told = capsys.readouterr().out
    for line in ("Libraries", "CPU  8 x cpu", f"jax {version('jax')}", "Compiled programs"):
        assert line in re.sub(" {2,}", " ", told) or line in told


def test_an_extra_that_is_missing_or_in_part_says_how_to_install_it(capsys, monkeypatch) -> None:
    there = {"fastapi": "0.165.0", "httpx": "0.28.1"}
    monkeypatch.setattr(env, "_version", there.get)
    assert main(["env"]) == 0
    told = re.sub(" +", " ", capsys.readouterr().out)
    assert " client httpx 0.28.1\n" in told
    assert " serve only fastapi 0.165.0: pip install 'grm-jax[serve]'\n" in told
    assert " cuda not installed: pip install 'grm-jax[cuda]'\n" in told


@pytest.mark.parametrize(
    ("plugin", "platforms", "says"),
    [
        (False, "", "JAX is installed for CPUs only: pip install 'grm-jax[cuda]'"),
        (False, "cpu", "JAX is installed for CPUs only: pip install 'grm-jax[cuda]'"),
        (True, "cpu", "JAX_PLATFORMS is 'cpu', which leaves them out: unset it"),
        (True, "cuda,cpu", "needs a driver of version 580 or newer"),
    ],
)
def test_a_card_that_is_not_used_says_why(plugin, platforms, says, monkeypatch, tmp_path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "information").write_text("Model: \t\t NVIDIA L4\nIRQ:   \t\t 88\n")
    monkeypatch.setattr(env, "CARDS", tmp_path)
    monkeypatch.setattr(env, "find_spec", lambda name: plugin or None)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert env.nvidia_cards() == ["NVIDIA L4", "NVIDIA L4"]
    (note,) = env.card_notes(env.nvidia_cards(), [{"platform": "cpu"}])
    assert note.startswith("This machine has 2 x NVIDIA L4, but ")
    assert says in note
    assert not [*env.card_notes(env.nvidia_cards(), [{"platform": "gpu"}])]


@pytest.mark.parametrize(
    ("script", "cards"), [("echo 'NVIDIA A10'", ["NVIDIA A10"]), ("exit 9", [])]
)
def test_a_driver_that_is_elsewhere_is_asked(script, cards, monkeypatch, tmp_path) -> None:
    """As under WSL, where there is nothing of it in /proc."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(env, "CARDS", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert env.nvidia_cards() == cards


def test_without_any_device_it_says_so_and_fails(monkeypatch, capsys) -> None:
    def none() -> list:
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "devices", none)
    assert main(["env"]) == 1
    assert "JAX has no device: Unable to initialize backend 'tpu'." in capsys.readouterr().out


def test_a_job_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
    assert main(["env"]) == 0
    assert "JAX_NUM_PROCESSES and JAX_PROCESS_ID is not" in capsys.readouterr().out
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    assert main(["env"]) == 0
    assert "a job of several processes" in capsys.readouterr().out
