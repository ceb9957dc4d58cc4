"""Compiled programs are kept, found again, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from grm_jax.cli import programs
from tests.processes import QUICK

ROOT = Path(__file__).resolve().parents[2]
# Compiles one program and says what became of it.
COMPILE = """
import json, sys
from collections import Counter
import jax
from grm_jax.cli.programs import forget_programs, keep_programs

events = Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name.split("/")[-1]]))
{}()
value = jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.ones((8, 8))).sum()
print(json.dumps([events["cache_misses"] > 0, events["cache_hits"] > 0, float(value).hex()]))
"""


def start(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process without any of the settings that the tests themselves run with."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}
    env |= {"PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def compiles(call: str = "keep_programs", **environment: str) -> tuple[list, str]:
    """[kept, found, the value], and what was said."""
    done = start(COMPILE.replace("{}", call), **environment)
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_a_program_is_kept_in_the_users_cache_and_found_again(tmp_path: Path) -> None:
    (kept, found, value), _ = compiles(XDG_CACHE_HOME=str(tmp_path))
    assert (kept, found) == (True, False)
    assert compiles(XDG_CACHE_HOME=str(tmp_path)) == ([False, True, value], "")
    (folder,) = (tmp_path / "grm_jax").iterdir()
    # Another process was ended while it wrote, or the disk was full.
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    (_, found, again), told = compiles(XDG_CACHE_HOME=str(tmp_path))
    assert (found, again, told) == (False, value, "")


@pytest.mark.slow
def test_jax_own_variables_win(tmp_path: Path) -> None:
    own = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    assert compiles(**own)[0][:2] == [True, False]
    assert compiles(**own)[0][:2] == [False, True]
    assert compiles(**own, JAX_ENABLE_COMPILATION_CACHE="0")[0][:2] == [False, False]
    assert compiles("forget_programs", **own)[0][:2] == [False, False]
    assert not (tmp_path / "xdg").exists()


@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_said_once_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (kept, found, _), told = compiles(XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (kept, found) == (False, False)
    assert told.startswith("New programs are not kept: ")
    assert told.count("\n") == 1


@pytest.mark.slow
def test_on_a_full_disk_programs_are_only_read(tmp_path: Path) -> None:
    full = "programs.ROOM = 2**70; keep_programs"
    first = "from grm_jax.cli import programs; " + full
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    (kept, found, value), told = compiles(first, **own)
    assert (kept, found, list(tmp_path.iterdir())) == (False, False, [])
    assert "is full" in told
    compiles(**own)
    assert compiles(first, **own)[0] == [False, True, value]


def test_the_oldest_programs_go_when_there_are_too_many(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(programs, "MOST", 25)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # A command of another test may have turned the cache off.
    settings = {"jax_compilation_cache_dir": None, "jax_enable_compilation_cache": True}
    before = {name: getattr(jax.config, name) for name in settings}

    def keep() -> Path:
        try:
            for name, value in settings.items():
                jax.config.update(name, value)
            programs.keep_programs()
            return Path(jax.config.jax_compilation_cache_dir)
        finally:
            for name, value in before.items():
                jax.config.update(name, value)

    folder = keep()  # which is not there yet
    for age in range(4):
        file = folder / f"{age}-cache"
        file.write_bytes(bytes(10))
        os.utime(file, (1000 - age, 1000 - age))
    assert keep() == folder
    assert sorted(file.name for file in folder.iterdir()) == ["0-cache", "1-cache"]


@pytest.mark.slow
def test_commands_that_are_about_compiling_find_nothing(tmp_path: Path) -> None:
    """A program for a TPU cannot be loaded where there is none, and JAX would warn of it."""
    code = """
import jax
from grm_jax.cli import main
asked = {"judge": "--input missing.jsonl", "aot": "--sequences 0", "bench": "--output ."}
for command, options in asked.items():
    jax.config.update("jax_enable_compilation_cache", True)
    assert main([command, *options.split()]) == 2
    print(command, jax.config.jax_enable_compilation_cache)
"""
    done = start(code, XDG_CACHE_HOME=str(tmp_path))
    assert done.stdout.splitlines() == ["judge True", "aot False", "bench False"]


@pytest.mark.slow
def test_a_verdict_has_the_same_bits_by_a_kept_program(tmp_path: Path) -> None:
    code = "import sys; from grm_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"prompt": "What is 37+45?", "responses": ["82", "81"]})
    )
    judged = []
    for name, enabled in (("off", "0"), ("cold", "1"), ("warm", "1")):
        output = tmp_path / f"{name}.jsonl"
        command = ["judge", "--k", "2", "--slots", "2", "--input", str(tmp_path / "rows.jsonl")]
        start(
            code,
            *(*command, "--output", str(output)),
            XDG_CACHE_HOME=str(tmp_path),
            JAX_ENABLE_COMPILATION_CACHE=enabled,
        )
        judged.append(output.read_bytes())
    assert judged[0] == judged[1] == judged[2]
    assert any((tmp_path / "grm_jax").rglob("jit_advance*"))
