"""Checkpoints that lie broken on the disk: the newest sound one is used, the broken one named."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.compare import compare
from tests.faults.kills import undisturbed
from tests.faults.process import Command, run, until
from tests.faults.rounds import Round
from tests.faults.scenes import Scene


def _largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def _cut(checkpoint: Path) -> None:
    path = _largest(checkpoint)
    os.truncate(path, path.stat().st_size // 2)


def _flip(checkpoint: Path) -> None:
    path = _largest(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def _flip_every_file(checkpoint: Path) -> None:
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.stat().st_size:
            data = bytearray(path.read_bytes())
            data[len(data) // 3] ^= 1
            path.write_bytes(data)


def _empty(checkpoint: Path) -> None:
    _largest(checkpoint).write_bytes(b"")


def _remove(checkpoint: Path) -> None:
    _largest(checkpoint).unlink()


def _remove_metadata(checkpoint: Path) -> None:
    next(checkpoint.rglob("_METADATA")).unlink()


def _empty_metadata(checkpoint: Path) -> None:
    next(checkpoint.rglob("_CHECKPOINT_METADATA")).write_text("")


def _remove_a_part(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "rest")


def _empty_folder(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "largest file cut in half": _cut,
    "one bit of the largest file flipped": _flip,
    "one bit of every file flipped": _flip_every_file,
    "largest file emptied": _empty,
    "largest file removed": _remove,
    "_METADATA removed": _remove_metadata,
    "_CHECKPOINT_METADATA emptied": _empty_metadata,
    "optimiser removed": _remove_a_part,
    "folder emptied": _empty_folder,
}


def damage(scene: Scene, work: Path, kinds: list[str] | None = None) -> Round:
    """Each kind of damage to the newest checkpoint of a run that was killed, then the command
    again."""
    whole, killed = undisturbed(scene, work), _killed(scene, work)
    log = work / "damaged.log"
    result = Round("a checkpoint: damaged", 0)
    for number, kind in enumerate(kinds or DAMAGE):
        output = work / "damaged" / str(number)
        shutil.copytree(killed, output)
        newest = max(_steps(output), key=lambda path: int(path.name))
        DAMAGE[kind](newest)
        command = run(scene.arguments(output), log)
        found = compare(output, whole)
        if command.poll() != 0:
            found.different.append(f"{kind}: exit {command.poll()}: {command.said[-300:]}")
        elif newest.name not in command.said or "checkpoint" not in command.said:
            found.different.append(f"{kind}: step {newest.name} is not named: {command.said}")
        result.count += 1
        result.add(found)
    return result


def all_broken(scene: Scene, work: Path) -> Round:
    """No checkpoint is sound: a sentence, and nothing is deleted."""
    output = work / "damaged" / "all"
    shutil.copytree(_killed(scene, work), output)
    for checkpoint in _steps(output):
        _cut(checkpoint)
    before = _files_of(output)
    command = run(scene.arguments(output), work / "damaged.log")
    result = Round("every checkpoint: damaged", 1)
    if command.poll() == 0 or "Traceback" in command.said:
        result.different.append(f"exit {command.poll()}: {command.said[-600:]}")
    if _files_of(output) != before:
        result.different.append("checkpoints were deleted or moved")
    return result


def _files_of(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("checkpoints/**/*") if path.is_file())


def _steps(output: Path) -> list[Path]:
    # os.walk passes over what a running command renames meanwhile; Path.rglob raises.
    folders = (
        (Path(root), names)
        for root, names, _ in os.walk(output)
        if Path(root).name == "checkpoints"
    )
    return [root / name for root, names in folders for name in names if name.isdigit()]


def _killed(scene: Scene, work: Path) -> Path:
    """A run that was killed when it had two checkpoints."""
    output = work / "damaged" / "before"
    if not output.exists():
        command = Command(scene.arguments(output), work / "damaged.log")
        if not until(lambda: len(_steps(output)) >= 2, command):
            raise RuntimeError(f"it ended before it could be killed: {command.said[-1000:]}")
        command.send(signal.SIGKILL)
        command.wait()
    return output
