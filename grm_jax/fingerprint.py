"""What a result was made from: hashes of files and folders, such as a model's, and of rows.

Of a file every byte is hashed. Samples of the blocks would be quicker, but would miss an edited row
of an embedding, and names, sizes and dates change where nothing has and stay where something has.
It costs one pass over files that are about to be read anyway, several at a time: some seconds for
a model of 5 GB, once per process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path


def fingerprint(path: Path) -> str:
    """A hash of a file, or over the files of a folder by their names.

    Hidden files and Markdown do not count: a new model card makes no new model.
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


class RowsHash:
    """A hash of rows, in their order: what is judged of each (`Example.digest`), and its label."""

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
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix != ".md":
            yield path


def _hash(path: Path) -> str:
    status = path.stat()
    return _hashed(str(path.resolve()), status.st_size, status.st_mtime_ns)


@cache
def _hashed(path: str, size: int, changed: int) -> str:
    """The SHA-256 of a file; a stage and the pipeline around it ask for the same ones."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
