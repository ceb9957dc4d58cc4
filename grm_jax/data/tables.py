"""Rows of tables: CSV and TSV, Parquet and Arrow."""

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from grm_jax.data.json_rows import BOM, text_lines

# Columns that hold lists, which are JSON in a CSV.
LISTS = {"responses", "scores", "completions", "loser_list", "rewards_armorm", "history"}
LONGEST_CELL = 2**31 - 1


def csv_rows(file: BinaryIO, delimiter: str) -> Iterator[tuple[int, Any]]:
    """The rows of a table whose first line names the columns; all cells are text.

    A cell is read as JSON in a column of lists, or if it holds a list of turns.
    """
    csv.field_size_limit(LONGEST_CELL)  # by default no longer than 131,072 characters
    lines = _Lines(file)
    header: list[str] = []
    while (cells := lines.next_row(delimiter)) is not None:
        line = lines.first
        if isinstance(cells, ValueError):
            yield line, cells
            if not header:
                return
        elif not header:
            header = [cell.strip() for cell in cells]
            if twice := {name for name in header if header.count(name) > 1}:
                yield line, ValueError(f"the column {min(twice)} comes twice in the first line")
                return
        elif len(cells) != len(header):
            yield line, ValueError(
                f"the row has {len(cells)} cells and the first line names {len(header)}: a text "
                "with commas or line ends needs quotes"
            )  # fmt: skip
        elif cells != header:  # repeated where files were concatenated
            yield line, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}


class _Lines:
    """The lines of a table; csv.reader takes as many as a row spans."""

    def __init__(self, file: BinaryIO):
        self._lines = text_lines(file)
        self._delimiter = ""
        self._wrong: ValueError | None = None
        self._number = 0
        self.first = 1  # the line that the last row began on

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self._number, text, wrong = next(self._lines)
        self._wrong = self._wrong or wrong
        return text.removeprefix(BOM)

    def next_row(self, delimiter: str) -> list[str] | ValueError | None:
        """The cells of the next row that is not blank; None at the end.

        The delimiter is a semicolon if the first row has semicolons and no other delimiter.
        """
        for text in self:
            if not text.strip():
                continue
            self.first = self._number
            if not self._delimiter:
                self._delimiter = ";" if ";" in text and delimiter not in text else delimiter
            try:
                # Strict, or an unclosed quote would swallow everything that follows.
                reader = csv.reader(chain([text], self), delimiter=self._delimiter, strict=True)
                cells = next(reader)
            except csv.Error as error:
                self._wrong = self._wrong or ValueError(f"this is not a row of a table: {error}")
            wrong, self._wrong = self._wrong, None
            return wrong or cells
        return None


def _cell(name: str, cell: str) -> Any:
    if not cell.lstrip().startswith("["):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    turns = value and all(
        isinstance(item, Mapping) and ("role" in item or "from" in item) for item in value
    )
    return value if name in LISTS or turns else cell


def parquet_rows(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file, read page by page."""
    # Imported here because it is slow to import, and only Parquet needs it.
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64):
                for row in arrow_rows(batch):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        yield number + 1, ValueError(f"this Parquet file cannot be read from here on: {reason}")


def parquet_count(path: Path) -> int | None:
    """How many rows a Parquet file says that it holds; None if it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(path).num_rows
    except (pyarrow.ArrowException, OSError):
        return None


def arrow_rows(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow table or batch. Values that Python has no type for become text."""
    columns = [[_value(item) for item in column] for column in batch.columns]
    names = batch.schema.names
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, TypeError, LookupError, ImportError):
        # Nanoseconds, years beyond 9999, unknown time zones: no reason to lose a row.
        return _as_text(scalar)


def _as_text(scalar: Any) -> str:
    try:
        return str(scalar.cast("string"))
    except (ValueError, NotImplementedError):
        return f"({scalar.type} that cannot be read)"
