"""Files of rows: the formats that are read, each as (line, row).

Files may be compressed. A row that cannot be decoded is returned as the ValueError that says why;
where the file itself is damaged, a ValueError is its last row.
"""

import atexit
import bz2
import gzip
import lzma
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO, cast

from grm_jax.data.json_rows import BLANK, encoding_of, json_lines, json_values
from grm_jax.data.tables import csv_rows, parquet_count, parquet_rows

Rows = Iterator[tuple[int, Any]]

READERS: dict[str, Callable[[BinaryIO], Rows]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_values,
    ".parquet": parquet_rows,
    ".csv": lambda file: csv_rows(file, ","),
    ".tsv": lambda file: csv_rows(file, "\t"),
}


def _zstd(file: BinaryIO) -> Any:
    # Imported here because it is slow to import. No other dependency reads zstd.
    import io

    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))


UNPACKED: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".zst": _zstd,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2", b"\xfd7zXZ": ".xz"}
KNOWN = f"{', '.join(READERS)}, each also compressed ({', '.join(UNPACKED)})"


@dataclass(frozen=True)
class RowFile:
    """A file of rows, which can be read any number of times.

    name: the name used in errors. path: where its bytes are. form: a key of READERS. packed: a key
    of UNPACKED, or empty.
    """

    name: str
    path: Path
    form: str
    packed: str = ""

    def rows(self) -> Rows:
        """(line, row) of each row; the last row is a ValueError if the file is damaged."""
        line = 0
        with self.path.open("rb") as file:
            unpacked = UNPACKED[self.packed](file) if self.packed else file
            try:
                for line, row in READERS[self.form](unpacked):
                    yield line, row
            except (OSError, EOFError, UnicodeError, zlib.error, lzma.LZMAError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                if isinstance(error, UnicodeDecodeError):
                    why = error.reason.replace("illegal UTF-16 surrogate", "half a character")
                    reason = f"it is not {error.encoding} text ({why}); save it as UTF-8"
                yield line + 1, ValueError(f"the file cannot be read from here on: {reason}")

    def count(self) -> int | None:
        """How many rows it holds, where that is known without decoding them: JSON lines, of which
        blank ones do not count, and Parquet, unpacked; else None."""
        if self.packed:
            return None
        if self.form == ".parquet":
            return parquet_count(self.path)
        if READERS[self.form] is not json_lines:
            return None
        with self.path.open("rb") as file:
            return sum(1 for line in file if line.strip())


def row_file(path: Path) -> RowFile | None:
    """The file, with the format that its name ends in; None if that is not a known one."""
    *_, form, last = ("", "", *(suffix.lower() for suffix in path.suffixes))
    if last in UNPACKED and form in READERS:
        return RowFile(str(path), path, form, last)
    return RowFile(str(path), path, last) if last in READERS else None


@cache
def piped(name: str) -> RowFile:
    """The content of a pipe, kept in a file until the process ends, because it is read twice.

    It may be JSON lines, JSON or Parquet, compressed or not: the first bytes say which.
    """
    handle, kept = tempfile.mkstemp(prefix="grm-")
    atexit.register(Path(kept).unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as file:
        if name == "-":
            copyfileobj(sys.stdin.buffer, file)
        else:
            with Path(name).open("rb") as pipe:
                copyfileobj(pipe, file)
    with Path(kept).open("rb") as file:
        packed = next((MAGIC[magic] for magic in MAGIC if _begins(file, magic)), "")
        unpacked = cast(BinaryIO, UNPACKED[packed](file) if packed else file)
        try:
            start = unpacked.read(64)
        except (OSError, EOFError, zlib.error, lzma.LZMAError):
            start = b""  # the error is reported when the rows are read
    form = ".parquet" if start.startswith(b"PAR1") else ".jsonl"
    if start.decode(encoding_of(start), "ignore").lstrip(BLANK).startswith("["):
        form = ".json"
    return RowFile("stdin" if name == "-" else name, Path(kept), form, packed)


def _begins(file: BinaryIO, magic: bytes) -> bool:
    file.seek(0)
    found = file.read(len(magic)) == magic
    file.seek(0)
    return found
