"""GGUF, the files of llama.cpp: what is in their header, read with every bound checked.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package has a
reader too, which makes arrays of every text of a vocabulary (half a minute for 262,144) and trusts
the counts that a file gives.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from grm_jax.text.files import refuse_pointer

SUFFIX = ".gguf"
# Kinds of metadata: whole and real numbers and true or false by their struct format, and two more.
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 1 << 24  # of an array; vocabularies and their merges have up to a million
_SHORTEST_ENTRY = 12  # bytes of an entry whose name is empty: a length and a kind
_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor lies: its shape (the dimension that is contiguous last), the number of its
    type, and the place of its first byte in the file."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True)
class GGUFHeader:
    """Everything of a file but its numbers."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[GGUFTensor, ...]


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the one of a folder without config.json.

    Raises:
        ValueError: a folder holds several.
    """
    if path.is_file():
        return path if path.suffix.lower() == SUFFIX else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == SUFFIX)
    if len(files) > 1 and not _SPLIT.search(files[0].name):
        raise ValueError(
            f"{path} holds {len(files)} GGUF files, {', '.join(f.name for f in files[:8])}: give "
            "the path of the one that is meant."
        )
    return files[0] if files else None


def read_header(path: Path) -> GGUFHeader:
    """The header of a GGUF file.

    Raises:
        ValueError: it is no GGUF file, of another version, damaged or cut off, or one of several
            that a model was split into.
    """
    status = path.stat()
    return _read_header(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _read_header(path: Path, size: int, changed: int) -> GGUFHeader:
    """Config, weights and tokenizer of a file are asked for one after the other."""
    del changed
    refuse_pointer(path)
    if size < 24:
        raise ValueError(f"{path} has {size} bytes, too few for a GGUF file: get it anew.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = _parse(path, _Cursor(path, content))
    parts = header.metadata.get("split.count", 1)
    if _SPLIT.search(path.name) or (isinstance(parts, int) and parts > 1):
        raise ValueError(
            f"{path} is one of several files that a model was split into, and only whole files are "
            "read. Merge them with llama.cpp: llama-gguf-split --merge FIRST_FILE WHOLE_FILE."
        )
    return header


def _parse(path: Path, cursor: _Cursor) -> GGUFHeader:
    if cursor.take(4) != b"GGUF":
        raise ValueError(f"{path} is not a GGUF file: it does not begin with the letters GGUF.")
    version = cursor.number("I")
    if version in (2 << 24, 3 << 24):
        raise ValueError(f"{path} is a GGUF file for big-endian machines, which is not read here.")
    if version not in (2, 3):
        raise ValueError(f"{path} is GGUF version {version}, but only 2 and 3 are read.")
    tensors = cursor.count("tensors", 2 * _SHORTEST_ENTRY)
    entries = cursor.count("entries", _SHORTEST_ENTRY)
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = cursor.text()
        if key in metadata:
            raise ValueError(f"{path} is damaged: it has two entries {key!r}. Get it anew.")
        metadata[key] = cursor.value(cursor.number("I"))
    table = [_tensor(path, cursor) for _ in range(tensors)]
    names = {tensor.name for tensor in table}
    if len(names) < len(table):
        raise ValueError(f"{path} is damaged: two tensors have the same name. Get it anew.")
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment % 8:
        raise ValueError(
            f"{path}: general.alignment is {alignment!r}, but must be a multiple of 8."
        )
    begin = -(-cursor.position // alignment) * alignment
    placed = tuple(
        GGUFTensor(tensor.name, tensor.shape, tensor.kind, begin + tensor.start) for tensor in table
    )
    return GGUFHeader(path, metadata, placed)


def _tensor(path: Path, cursor: _Cursor) -> GGUFTensor:
    """An entry of the table, its start counted from where the numbers begin."""
    name, dimensions = cursor.text(), cursor.number("I")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise ValueError(
            f"{path} is damaged: {name!r} has {dimensions} dimensions, but 1 to "
            f"{_MOST_DIMENSIONS} are possible. Get it anew."
        )
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
    return GGUFTensor(name, shape, cursor.number("I"), cursor.number("Q"))


class _Cursor:
    """Reads one thing after the other, and nothing past the end."""

    def __init__(self, path: Path, content: mmap.mmap):
        self._path, self._content, self._size = path, content, len(content)
        self.position = 0

    def take(self, size: int) -> bytes:
        start, end = self.position, self.position + size
        if end > self._size:
            raise ValueError(
                f"{self._path} ends in the middle of its header. Was the download interrupted? "
                "Get the file anew."
            )
        self.position = end
        return self._content[start:end]

    def number(self, kind: str) -> Any:
        layout = f"<{kind}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, what: str, least_bytes: int, most: int | None = None) -> int:
        """How many there are of something of at least so many bytes each."""
        count = self.number("Q")
        if count * least_bytes > self._size - self.position or count > (most or count):
            raise ValueError(
                f"{self._path} is damaged or cut off: it claims {count} {what}, more than there "
                f"can be in its {self._size} bytes. Get the file anew."
            )
        return count

    def text(self) -> str:
        raw = self.take(self.number("Q"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(
                f"{self._path} is damaged: {raw[:40]!r} in its header is not UTF-8. Get it anew."
            ) from None

    def value(self, kind: int) -> Any:
        """A number, a text, true or false, or a list of one kind of these."""
        if kind == _TEXT:
            return self.text()
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _ARRAY:
            raise ValueError(f"{self._path} is damaged: there is no metadata of kind {kind}.")
        inner = self.number("I")
        if inner == _TEXT:
            return [self.text() for _ in range(self.count("texts", 8, _MOST_ELEMENTS))]
        if inner not in _NUMBERS:
            raise ValueError(f"{self._path}: arrays of kind {inner} are not read in metadata.")
        size = struct.calcsize(f"<{_NUMBERS[inner]}")
        count = self.count("numbers", size, _MOST_ELEMENTS)
        return list(struct.unpack(f"<{count}{_NUMBERS[inner]}", self.take(count * size)))
