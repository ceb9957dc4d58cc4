"""Outputs: whose a file or folder is, what made it, and whether a process is writing it.

Every command claims what it writes before it touches anything. A file of settings, the mark, lies
beside an output file (FILE.yaml) or in an output folder. It says which command made the output,
with which settings, and from which files; `--config` takes it. What has no mark is not ours.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import yaml

from grm_jax.copies import working_copy
from grm_jax.locks import lock, lock_of
from grm_jax.paths import expanded
from grm_jax.places import is_address, shown_settings
from grm_jax.processes import from_first
from grm_jax.text.json_line import plain

FACT = "#: "  # a comment in YAML; we read facts from it that are not settings
# What a shell may be writing into a new folder while the command starts.
LOGS = (".log", ".out", ".err")


@dataclass(frozen=True)
class Made:
    """What makes an output.

    Attributes:
        command: such as "grm judge".
        settings: all of them, in JSON's types.
        free: dotted names of those that may change when an output is continued, with all below
            them.
        reads: fingerprints of the files that decide the result, by the names of their settings.
    """

    command: str
    settings: Mapping[str, Any]
    free: Sequence[str] = ()
    reads: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def claimed_file(
    output: str | Path, made: Made, *, apart: Sequence[str | Path] = ()
) -> Iterator[Path]:
    """Holds an output file, with its mark written beside it; gives its path.

    In a job of several processes all must enter; the first one claims for all.

    Args:
        apart: inputs, none of which may be the output.

    Raises:
        ValueError: it is not ours, is an input, was made with other settings, or another process is
            writing it.
    """
    if is_address(output):
        address = str(output)
        if other := next((str(o) for o in apart if str(o) in (address, f"{address}.yaml")), None):
            raise ValueError(f"{address} would overwrite the input {other}: name another output.")
        with (
            working_copy(address, file=True) as path,
            claimed_file(path, made, apart=apart),
        ):
            yield path
        return
    path = _local(output)
    mark = path.with_name(f"{path.name}.yaml")

    def check() -> None:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: give the name of a file in it as the output.")
        for other in map(expanded, apart):
            if _same(path, other) or _same(mark, other):
                raise ValueError(f"{path} would overwrite the input {other}: name another output.")
        filled = path.exists() and path.stat().st_size > 0
        if not mark.exists() and filled:
            raise ValueError(
                f"{path} is there and is no output of {made.command}, which would have {mark.name} "
                "beside it: name another output, or move it away."
            )
        _check_mark(mark, path, made, compare=filled)

    with _held(lock_of(path), path, check, lambda: _write_mark(mark, made)):
        yield path


@contextmanager
def claimed_folder(
    output: str | Path, made: Made, *, mark: str = "config.yaml", signs: Sequence[str] = ()
) -> Iterator[Path]:
    """Holds an output folder, with its mark written into it; gives its path.

    As `claimed_file`; a new folder is made.

    Args:
        mark: the name of the file of settings.
        signs: patterns of files by which a folder without the mark is ours as well.
    """
    if is_address(output):

        def admit(names: Collection[str]) -> None:
            _check_ours(str(output), names, made, mark, signs)

        with (
            working_copy(str(output), admit=admit) as path,
            claimed_folder(path, made, mark=mark, signs=signs),
        ):
            yield path
        return
    path = _local(output)

    def check() -> None:
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: give a folder as the output.")
        known = (path / mark).exists() or any(any(path.glob(sign)) for sign in signs)
        _check_ours(str(path), () if known else _top(path), made, mark, signs)
        _check_mark(path / mark, path, made, compare=True)

    with _held(path / ".lock", path, check, lambda: _write_mark(path / mark, made)):
        yield path


def check_file(output: str | Path, ours: Callable[[Path], bool], what: str) -> Path:
    """The path of a file that is written at once, if it is new, empty, or an earlier one of ours.

    Args:
        ours: whether the file that is there is such a file.
        what: a name for such a file, for the error.

    Raises:
        ValueError: another kind of file is there, or a folder.
    """
    path = _local(output)

    def check() -> None:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: give the name of a file in it as the output.")
        if path.exists() and path.stat().st_size and not ours(path):
            raise ValueError(f"{path} is there and is not {what}: name another output.")

    from_first(check)
    return path


def json_with(*names: str) -> Callable[[Path], bool]:
    """For `check_file`: whether a file is a JSON object with these names."""

    def ours(path: Path) -> bool:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return False
        return isinstance(found, dict) and set(names) <= set(found)

    return ours


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, sentence) of each value that differs; two spellings of a path do not."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{name}.{key}" if name else str(key)
            yield from differences(before.get(key), now.get(key), inner)
    elif before != now and not (
        isinstance(before, str) and isinstance(now, str) and _spelling(before) == _spelling(now)
    ):
        yield name, f"{name} was {before!r} and is now {now!r}"


def write_whole(path: Path, text: str) -> None:
    """Writes a text file completely or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _local(output: str | Path) -> Path:
    path = expanded(output)
    if re.match(r"\w+:/", str(path)):  # what Path makes of gs://bucket
        raise ValueError(
            f"output is {output}, an address, but this command writes to ordinary paths only: name "
            "a file or folder of this machine, and copy it there."
        )
    return path


@contextmanager
def _held(
    lock_file: Path, path: Path, check: Callable[[], None], write: Callable[[], None]
) -> Iterator[None]:
    """Checks, locks, checks again what may have changed meanwhile, and writes the mark."""
    with ExitStack() as stack:

        def claim() -> None:
            check()
            try:
                lock_file.parent.mkdir(parents=True, exist_ok=True)
                lock(lock_file, path, stack)
                check()
                write()
            except OSError as error:
                raise ValueError(f"{path} cannot be written: {error}.") from None

        from_first(claim)
        yield


def _check_ours(
    folder: str, names: Collection[str], made: Made, mark: str, signs: Sequence[str]
) -> None:
    """Raises ValueError if a folder that holds these files is not ours, by its mark or a sign."""
    if mark in names or any(PurePath(name).match(sign) for name in names for sign in signs):
        return
    # Hidden files and logs do not count.
    tops = sorted({name.partition("/")[0] for name in names})
    foreign = (top for top in tops if not top.startswith(".") and PurePath(top).suffix not in LOGS)
    if (other := next(foreign, None)) is not None:
        raise ValueError(
            f"{folder} is there and holds {other}, but no {mark} of {made.command}: "
            "give a new or an empty folder as the output."
        )


def _top(folder: Path) -> list[str]:
    """The names of what a folder holds."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _check_mark(mark: Path, path: Path, made: Made, *, compare: bool) -> None:
    """Raises ValueError if the mark is not ours, or (where to `compare`) says something else."""
    if not mark.exists():
        return
    settings, facts = read_mark(mark, path)
    command = facts.get("command")
    if command is None and not set(settings) <= set(made.settings):
        raise ValueError(
            f"{mark} is no file of settings of {made.command} (it has "
            f"{', '.join(map(str, settings))[:200]}): name another output."
        )
    if not compare:
        return
    if command not in (None, made.command):
        raise ValueError(
            f"{path} was made by {command}, and this is {made.command}: name another output."
        )
    # An option that an earlier version did not have is not compared.
    given = shown_settings(plain(made.settings))
    now = {name: value for name, value in given.items() if name in settings}
    changed = [
        sentence
        for name, sentence in differences(settings, now)
        if not any(name == free or name.startswith(f"{free}.") for free in made.free)
    ]
    before = facts.get("reads") or {}
    changed += [
        f"the files of {name} are not what they were"
        for name, now in made.reads.items()
        if before.get(name, now) != now and not any(one.startswith(name) for one in changed)
    ]
    if changed:
        raise ValueError(
            f"{path} was made with other settings, and results of the two do not mix:\n  "
            + "\n  ".join(changed)
            + "\nName another output, put it back, or delete what is there."
        )


def read_mark(mark: Path, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings in a mark, and what else it says."""
    try:
        text = mark.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
        facts = yaml.safe_load(
            "".join(
                line.removeprefix(FACT) for line in text.splitlines(True) if line.startswith(FACT)
            )
        )
    except (ValueError, yaml.YAMLError, OSError):
        settings = facts = None
    if not isinstance(settings, dict) or not isinstance(facts, dict | None):
        raise ValueError(
            f"{mark} is empty or damaged; it says with which settings {path} was made. Put it "
            "back, name another output, or delete both."
        )
    return settings, facts or {}


def _write_mark(mark: Path, made: Made) -> None:
    facts = {"command": made.command, "versions": _versions(), "reads": dict(made.reads)}
    comment = "".join(FACT + line for line in _yaml(facts).splitlines(True))
    head = (
        f"# The settings of this output, for --config. Leave the lines with {FACT.strip()} alone.\n"
    )
    write_whole(mark, head + comment + _yaml(shown_settings(plain(made.settings))))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("grm-jax", "jax"):
        with suppress(PackageNotFoundError):  # a checkout that is not installed
            found[name] = version(name)
    return found


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)


def _same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return os.path.samefile(path, other)
    return path.resolve() == other.resolve()


def _spelling(text: str) -> str:
    return text.rstrip("/") if is_address(text) else os.path.abspath(expanded(text))
