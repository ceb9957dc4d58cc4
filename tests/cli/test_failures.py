"""What ends a command is a sentence with a file's name, whatever the library that raised it."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from grm_jax.cli import main
from grm_jax.cli.failures import explain


def raise_it(error: BaseException) -> Any:
    def run(_: Any) -> int:
        raise error

    return run


def fails(error: BaseException, monkeypatch, capsys) -> tuple[int, str]:
    monkeypatch.setattr("grm_jax.cli.judge.run", raise_it(error))
    status = main(["judge"])
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda at: (at / "no").read_text(), "/no does not exist."),
        (lambda at: at.read_text(), " is a folder, where a file is needed."),
        (lambda at: (at / "file" / "in").mkdir(), "/file/in has a file in its path where a folder"),
        (lambda at: (at / "file").mkdir(), "/file exists already: choose another place."),
        (lambda at: (at / "loop").read_text(), "/loop is a link that leads back to itself."),
        (lambda at: (at / ("x" * 300)).write_text(""), "has a name that is too long for this disk"),
        (
            lambda at: os.rename(at, b"/" + os.fsencode(at / "x")),
            ": Invalid argument.",
        ),
    ],
)
def test_what_the_system_says_of_a_path(make, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError) as caught:  # noqa: PT011
        make(tmp_path)
    told = explain(caught.value)
    assert told is not None
    assert says in told[0]
    assert "Errno" not in told[0]
    assert len(told[0]) < 400


@pytest.mark.parametrize(
    ("error", "says", "status"),
    [
        (PermissionError(errno.EACCES, "no", "/a/b"), "/a/b cannot be opened", 2),
        (OSError(errno.EROFS, "no", "/a/b"), "/a/b is on a read-only disk", 2),
        (OSError(errno.EIO, "Input/output error", "/a/b"), "/a/b: Input/output error.", 1),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files", 1),
        (OSError(errno.ENOSPC, "No space left", "/a/b"), "no space is left on the disk of /a/b", 1),
        (OSError(errno.EDQUOT, "Quota exceeded"), "no space is left on the disk (", 1),
        # What tensorstore makes of it, of which checkpoints are written.
        (ValueError("RESOURCE_EXHAUSTED: write [OS error 28: ENOSPC No space]"), "no space is", 1),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory on this machine (Unable to", 1),
        (ModuleNotFoundError("No module named 'x'", name="x"), "this needs the library x", 2),
        (FileNotFoundError("There is no model folder x."), "There is no model folder x.", 2),
        (yaml.YAMLError("odd"), "this is not YAML: odd.", 2),
        (ValueError("k is 0."), "k is 0.", 2),
    ],
)
def test_errors_are_sentences(error, says: str, status: int, monkeypatch, capsys) -> None:
    assert fails(error, monkeypatch, capsys)[0] == status
    told = fails(error, monkeypatch, capsys)[1]
    assert told.startswith(f"grm judge: {says}")
    assert "Traceback" not in told


def test_a_full_disk_is_found_under_what_was_made_of_it(monkeypatch, capsys) -> None:
    error = RuntimeError("the checkpoint was not written")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/a/b")
    assert fails(error, monkeypatch, capsys) == (1, explain_text(error))


def explain_text(error: Exception) -> str:
    told = explain(error)
    assert told is not None
    return f"grm judge: {told[0]}\n"


def test_what_nobody_expects_is_told_as_a_fault_of_ours(monkeypatch, capsys) -> None:
    status, told = fails(AttributeError("no such thing"), monkeypatch, capsys)
    assert status == 1
    assert "Traceback" in told
    assert "AttributeError: no such thing" in told
    assert re.fullmatch(
        r"grm judge: this is a bug in grm_jax \S+, .* report it, with the lines above\.",
        told.splitlines()[-1],
    )


@pytest.mark.parametrize(
    ("name", "say"),
    [
        ("stdout", lambda: Console().print("x" * 10**4)),
        ("stdout", lambda: print("x" * 100)),  # stays in the buffer until the end
        ("stdout", lambda: print("x" * 10**6)),
        ("stderr", lambda: print("x" * 10**6, file=sys.stderr, flush=True)),
    ],
    ids=["a table", "a line", "a long text", "errors"],
)
def test_a_reader_that_goes_away_ends_it_quietly(name: str, say, monkeypatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, name, closed)
        monkeypatch.setattr("grm_jax.cli.judge.run", lambda _: say())
        assert main(["judge"]) == 141
        closed.write("what is said later goes nowhere")
        closed.flush()
