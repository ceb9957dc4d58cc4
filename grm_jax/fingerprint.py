"""Hashes of a result's inputs: files, model folders, rows.

Every byte of a file is hashed. Hashing samples of its blocks would be quicker, but would miss an
edited row of an embedding; and names, sizes and dates can change when the content has not, or stay
the same when it has. The cost is one pass over files that are about to be read anyway, several at
a time: a few seconds for a model of 5 GB, once per process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePath

from grm_jax.places import Place


def fingerprint(path: Path) -> str:
    """A hash of a file, or of all files in a folder and their names.

    Hidden files and Markdown are left out: a new model card does not make a new model.
    """
    if not path.is_dir():
        return _hash(path)
    files = sorted(_counted(path))
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for file, content in zip(files, pool.map(_hash, files), strict=True):
            digest.update(file.relative_to(path).as_posix().encode())
            digest.update(bytes.fromhex(content))
    return digest.hexdigest()


def fingerprint_at(place: Place) -> str:
    """The same for what is at an address, from the checksums that are kept there: nothing is read.
    It is no hash of a folder here. "" where there is nothing."""
    alone = place.stored()
    found = place.files() if alone is None else {place.name: alone}
    digest = hashlib.sha256()
    for name, stored in found.items():
        if _counts(PurePath(name)):
            digest.update(f"{name} {stored.size} {stored.digest}\n".encode())
    return digest.hexdigest() if found else ""


class RowsHash:
    """A hash of rows in order: the content that is judged (`Example.digest`) and the label."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, digest: str, label: int | None) -> None:
        """Adds a row."""
        self._hash.update(f"{digest} {label}\n".encode())

    def hexdigest(self) -> str:
        """The hash of all rows so far."""
        return self._hash.hexdigest()


def _counted(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and _counts(path.relative_to(folder)):
            yield path


def _counts(name: PurePath) -> bool:
    return not any(part.startswith(".") for part in name.parts) and name.suffix != ".md"


def _hash(path: Path) -> str:
    status = path.stat()
    return _hashed(str(path.resolve()), status.st_size, status.st_mtime_ns)


@cache
def _hashed(path: str, size: int, changed: int) -> str:
    """The SHA-256 of a file, cached: a stage and the pipeline around it hash the same files."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
