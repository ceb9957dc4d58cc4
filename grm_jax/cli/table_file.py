"""Tables as CSV, which a spreadsheet may open, and as Parquet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from grm_jax.text.messages import repair_surrogates

Row = Mapping[str, Any]
AT_ONCE = 10_000  # rows in memory
# A spreadsheet takes a cell that begins so for a formula, which may start programs and send what
# the sheet holds; numbers are none. Full-width forms count, too.
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def write_table(path: Path, schema: pa.Schema, rows: Iterable[Row]) -> int:
    """Writes the rows completely or not at all; returns how many there are.

    Memory holds AT_ONCE of them. In a CSV a text that a spreadsheet would take for a formula gets
    an apostrophe before it; a Parquet file has every text as it is.
    """
    part, count, left = path.with_name(f"{path.name}.part"), 0, iter(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_csv = path.suffix == ".csv"
    writer = csv.CSVWriter if is_csv else parquet.ParquetWriter
    try:
        with writer(part, schema) as file:
            while batch := list(islice(left, AT_ONCE)):
                columns = [
                    pa.array([_cell(row.get(field.name), is_csv) for row in batch], field.type)
                    for field in schema
                ]
                file.write_batch(pa.record_batch(columns, schema=schema))
                count += len(batch)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def has_columns(path: Path, *schemas: pa.Schema) -> bool:
    """Whether a file is a table with the columns of one of these."""
    with suppress(OSError, ValueError, pa.ArrowException):
        if path.suffix == ".csv":
            with path.open(encoding="utf-8") as file:
                names = file.readline().strip().replace('"', "").split(",")
        else:
            names = parquet.read_schema(path).names
        return any(names == schema.names for schema in schemas)
    return False


def _cell(value: Any, is_csv: bool) -> Any:
    if not isinstance(value, str):
        return value
    text = repair_surrogates(value)
    if is_csv and FORMULA.match(text) and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text
