"""stage.json: what the content of a stage's folder was made from, and how long that took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grm_jax.copies import move_folder
from grm_jax.outputs import write_whole
from grm_jax.processes import from_first, is_first, say

STAMP = "stage.json"


def make_once(
    folder: Path, inputs: Callable[[], dict[str, Any]], make: Callable[[], Path | None]
) -> Path | None:
    """Makes a folder's content unless it is there, made from the same inputs.

    What was made from other inputs is renamed, never deleted. The time counts all parts of a run
    that was interrupted.

    Returns:
        The folder, or what `make` returns.
    """
    if from_first(lambda: is_made(folder, inputs())):
        say(f"{folder} is there.")
        return folder
    began = time.monotonic()
    made = make()
    if is_first():
        stamp(folder, seconds=time.monotonic() - began, done=made is not None)
    return made


def is_made(folder: Path, inputs: dict[str, Any]) -> bool:
    """Whether a folder was made from these inputs; if not, it is ready to be when this returns.

    Raises:
        ValueError: its stage.json is damaged.
    """
    inputs = json.loads(json.dumps(inputs))
    path = folder / STAMP
    before = _read(path) if path.exists() else None
    # An input that an earlier version did not write down counts as unchanged.
    known = before["inputs"] if before is not None else {}
    if any(known.get(name, value) != value for name, value in inputs.items()):
        aside = next(
            path
            for path in (folder.with_name(f"{folder.name}.{i}") for i in range(1, 10_000))
            if not path.exists()
        )
        move_folder(folder, aside)
        say(f"{folder} was made from other inputs: it is now {aside}.")
        before = None
    if before is not None and before["done"]:
        return True
    if before is None:
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, {"done": False, "seconds": 0.0, "inputs": inputs})
    return False


def stamp(folder: Path, *, seconds: float, done: bool) -> None:
    """Adds the seconds to what a folder has taken, and says whether it is finished."""
    before = _read(folder / STAMP)
    _write(folder / STAMP, {**before, "done": done, "seconds": before["seconds"] + seconds})


def _read(path: Path) -> dict[str, Any]:
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
        if {"done", "seconds", "inputs"} <= set(stamp):
            return stamp
    except (ValueError, TypeError):
        pass
    raise ValueError(
        f"{path} is empty or damaged; it says what {path.parent} was made from. Move that folder "
        "away, or give another output."
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1))
