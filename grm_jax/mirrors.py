"""A folder of this machine and one of a bucket, of which each is brought to the state of the other.

Files are carried over in the order in which they were written, so that what a kill leaves in the
bucket is what it would have left here a little earlier. Files of lines, which mostly grow, go in
parts: FILE.parts/HASH-OFFSET goes on at this offset of the object FILE with this hash. In the end
each file is one object.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import BinaryIO

from grm_jax.places import Place, Stored

IN_PLACE = "checkpoints"  # the name of folders that are in the bucket only
GROWING = (".jsonl", ".jsonl.part")
PASSING = (".part", ".ordered", ".lock")  # the endings of files that are soon gone or renamed
PARTS = ".parts"
PIECE = 32 * 2**20  # bytes of a part, at most, unless a line is longer
TAIL = 4096  # bytes by which a file is known to have only grown

_blake = partial(blake2b, digest_size=8)


@dataclass
class _Carried:
    """What the bucket has of a file.

    state: of the file here. parts: the objects after the first. end: of what they hold. tail: the
    last bytes of that. base: the hash of the first object.
    """

    state: tuple[int, int, int]
    parts: list[str] = field(default_factory=list)
    end: int = 0
    tail: bytes = b""
    base: str = ""


class Mirror:
    """The two folders.

    Args:
        place: the folder in the bucket, or the file in it.
        path: its copy.
        file: both are files; those whose names begin with theirs and a dot belong to them.
    """

    def __init__(self, place: Place, path: Path, file: bool):
        self.place, self.path, self._file = place, path, file
        self._there = place.parent if file else place
        self._here = path.parent if file else path
        self._carried: dict[str, _Carried] = {}
        self._pulled: dict[str, list[tuple[str, Stored]]] = {}

    def names(self) -> dict[str, Stored]:
        """The objects that are mirrored, by name."""
        if not self._file:
            return {name: one for name, one in self._there.files().items() if _is_mirrored(name)}
        name = self.place.name
        alone = {one: (self._there / one).stored() for one in (name, f"{name}.yaml")}
        parts = (self._there / f"{name}{PARTS}").files()
        return {one: stored for one, stored in alone.items() if stored is not None} | {
            f"{name}{PARTS}/{one}": stored for one, stored in parts.items()
        }

    def pull(self) -> list[str]:
        """Brings the folder here to the state of the bucket.

        Returns:
            Parts that belong to no file: what a kill left of one that has been written anew.
        """
        objects = self.names()
        parts: dict[str, list[str]] = {name: [] for name in objects if not _is_part(name)}
        stale = []
        for name in filter(_is_part, objects):
            parts.get(name.rpartition(f"{PARTS}/")[0], stale).append(name)
        state = {n: [(one, objects[one]) for one in (n, *parts[n])] for n in parts}
        new = [name for name in state if self._pulled.get(name) != state[name]]
        pieces = [part for name in new for part in parts[name]]
        self._there.download((*new, *pieces), self._here)
        for name in new:
            stale += self._join(name, parts[name])
        for folder in {(self._here / piece).parent for piece in pieces}:
            shutil.rmtree(folder)
        for name in set(self._pulled) - set(state):
            (self._here / name).unlink(missing_ok=True)
        self._pulled = state
        return stale

    def push(self, last: bool = False) -> None:
        """Brings the bucket to the state of the folder here, or to that of a moment ago.

        last: nothing is being written any more; each file becomes one object.
        """
        here = self._files()
        for name, status in sorted(here.items(), key=lambda item: item[1].st_mtime_ns):
            with suppress(FileNotFoundError):  # it has been renamed meanwhile: next time
                self._carry(name, status, last)
        for name in set(self._carried) - set(here):
            self.remove([name, *self._carried.pop(name).parts])

    def remove(self, names: list[str]) -> None:
        """Removes objects."""
        for name in names:
            (self._there / name).remove()

    def move(self, folder: str, target: str) -> None:
        """Renames a folder in the bucket, with what is there only: it takes its time, and the files
        at its top, which say what is in it, come last."""
        names = sorted((self._there / folder).files(), key=lambda name: -name.count("/"))
        (self._there / folder).move(names, self._there / target)
        for name in [name for name in self._carried if name.startswith(f"{folder}/")]:
            moved = self._carried.pop(name)
            moved.parts = [target + part.removeprefix(folder) for part in moved.parts]
            self._carried[target + name.removeprefix(folder)] = moved

    def _files(self) -> dict[str, os.stat_result]:
        """The files here that are carried over, by name."""
        found = {}
        for path in self._here.rglob("*"):
            name = path.relative_to(self._here).as_posix()
            passing = name.endswith(PASSING) and not name.endswith(GROWING)
            if _is_mirrored(name) and not passing:
                with suppress(FileNotFoundError):
                    if path.is_file():
                        found[name] = path.stat()
        return found

    def _carry(self, name: str, status: os.stat_result, last: bool) -> None:
        """Carries a file over as it was when its status was taken."""
        state, before = _state(status), self._carried.get(name)
        if before and before.state == state and not (last and before.parts):
            return
        path = self._here / name
        if not last and name.endswith(GROWING):
            self._grow(name, path, state, before)
        elif state == _state(path.stat()):  # else what it holds now was written after other files
            (self._there / name).upload(path)
            self.remove(before.parts if before else [])
            self._carried[name] = _Carried(state)

    def _grow(
        self, name: str, path: Path, state: tuple[int, int, int], before: _Carried | None
    ) -> None:
        """Carries over the lines that a file has got, or all of them if it has not only grown."""
        with path.open("rb") as file:
            carried = before if before and _has_grown(file, state, before) else None
            if carried is None:
                content = _lines(file, 0, state[1])
                (self._there / name).write(content)
                self.remove(before.parts if before else [])
                base = _blake(content).hexdigest()
                carried = _Carried(state, [], len(content), content[-TAIL:], base)
                self._carried[name] = carried
            while content := _lines(file, carried.end, state[1]):
                part = f"{name}{PARTS}/{carried.base}-{carried.end:015d}"
                (self._there / part).write(content)
                carried.parts.append(part)
                carried.end += len(content)
                carried.tail = (carried.tail + content)[-TAIL:]
            carried.state = state

    def _join(self, name: str, parts: list[str]) -> list[str]:
        """Makes one file of an object and its parts, which have been copied; the parts that are
        none of it."""
        path, carried = self._here / name, _Carried((0, 0, 0))
        if name.endswith(GROWING):
            with path.open("rb") as file:
                carried.base = file_digest(file, _blake).hexdigest()
            with path.open("ab") as file:
                for part in sorted(parts):
                    if part.endswith(f"/{carried.base}-{file.tell():015d}"):
                        file.write((self._here / part).read_bytes())
                        carried.parts.append(part)
            with path.open("rb") as file:
                carried.end = file.seek(0, os.SEEK_END)
                file.seek(max(carried.end - TAIL, 0))
                carried.tail = file.read()
        carried.state = _state(path.stat())
        self._carried[name] = carried
        return [part for part in parts if part not in carried.parts]


def _is_mirrored(name: str) -> bool:
    *folders, _ = name.split("/")
    return IN_PLACE not in folders and not any(part.startswith(".") for part in name.split("/"))


def _is_part(name: str) -> bool:
    return f"{PARTS}/" in name


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """Which file it is, its size, and when it was changed."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def _has_grown(file: BinaryIO, state: tuple[int, int, int], before: _Carried) -> bool:
    """Whether a file is the one that it was, with more at its end."""
    file.seek(before.end - len(before.tail))
    return (
        (before.state[0] == state[0])
        and before.state[1] < state[1]
        and (file.read(len(before.tail)) == before.tail)
    )


def _lines(file: BinaryIO, start: int, stop: int) -> bytes:
    """The whole lines between two places of a file, or as many as a part holds."""
    file.seek(start)
    content = file.read(min(PIECE, stop - start))
    if b"\n" not in content:
        content += file.readline(stop - start - len(content))
    return content[: content.rfind(b"\n") + 1]
