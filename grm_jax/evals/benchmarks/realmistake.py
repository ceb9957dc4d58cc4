"""ReaLMistake (Kamoi et al., arXiv 2404.03602): is a single response right? By ROC-AUC.

Its authors ask that no example be published in plain text. The encrypted zip is read as shipped,
line by line in memory, with the password from its README; nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from grm_jax.data.sources import BadRow, to_example
from grm_jax.evals.benchmark import Benchmark, Table, Totals
from grm_jax.evals.benchmarks.averages import mean_of
from grm_jax.evals.benchmarks.reading import Rows
from grm_jax.evals.ranking import auc
from grm_jax.text.messages import Example

PASSWORD = b"open-realmistake"
TASKS = (
    "math_word_problem_generation",
    "finegrained_fact_verification",
    "answerability_classification",
)
MODELS = {"gpt-4-0613": 140, "Llama-2-70b-chat-hf": 160}
SPLITS = {f"{task}, {model}": count for task in TASKS for model, count in MODELS.items()}
COLUMNS = ("input", "llm_response", "error_label")


def _read(path: str | None) -> Rows:
    zip_path = Path(path or "")
    if zip_path.is_dir():
        zip_path /= "data.zip"
    if path is None or not zip_path.is_file():
        there = "" if path is None else f"there is no file at {zip_path}, and "
        raise FileNotFoundError(
            f"{there}ReaLMistake is gated on the hub and kept out of plain text: download data.zip "
            "from github.com/psunlpgroup/ReaLMistake and give its path as --data"
        )
    try:
        with ZipFile(zip_path) as archive:
            names = set(archive.namelist())
    except BadZipFile:
        raise ValueError(f"{zip_path} is not a zip file: give ReaLMistake's data.zip") from None
    members = {split: f"data/{split.replace(', ', '/')}.jsonl" for split in SPLITS}
    there = {split: member for split, member in members.items() if member in names}
    if not there:
        lacking = ", ".join(members.values())
        raise ValueError(f"{zip_path} has none of ReaLMistake's files {lacking}")
    return _rows(zip_path, there)


def _rows(zip_path: Path, members: dict[str, str]) -> Iterator[Example | BadRow]:
    with ZipFile(zip_path) as archive:
        for split, member in members.items():
            with archive.open(member, pwd=PASSWORD) as file:
                for line, raw in enumerate(file, 1):
                    yield _row(raw, split, f"{zip_path}/{member}", line)


def _row(raw: bytes, split: str, path: str, line: int) -> Example | BadRow:
    """The row as an Example, from the three columns that are needed."""
    identity = f"{split.replace(', ', '/')}:{line}"
    try:
        row = json.loads(raw)
        lacking = [column for column in COLUMNS if column not in row]
        if lacking:
            return BadRow(path, line, f"the row lacks {', '.join(lacking)}", identity)
        kept = {column: row[column] for column in COLUMNS} | {"id": identity}
        example = to_example(kept | {"subset": split}, path, line)
    except json.JSONDecodeError:
        # The parser's message would quote the text.
        return BadRow(path, line, "this is not JSON", identity)
    except ValueError as error:
        return BadRow(path, line, str(error), identity)
    return example


class Value(NamedTuple):
    """The score of a response, nan if no sample can be read; and 1 if it has no error, else 0."""

    score: Any
    right: Any


def _value(example: Example, totals: Totals | None, scalar: bool) -> Value:
    assert example.label is not None  # checked by the reader
    return Value(math.nan if totals is None else totals[0], float(example.label))


def _cells(table: Table) -> dict[str, float]:
    """Both pooled and by split: the paper does not say which it reports."""
    splits = {name: auc(*Value(*table.of(name).T), 100) for name in SPLITS}
    return {
        "ROC-AUC, pooled": auc(*Value(*table.values.T), 100),
        "ROC-AUC, mean of splits": mean_of(splits, SPLITS),
    } | splits


REALMISTAKE = Benchmark(
    name="realmistake",
    title="ReaLMistake",
    hub="data.zip of github.com/psunlpgroup/ReaLMistake",
    full=SPLITS,
    headline="ROC-AUC, pooled",
    read=_read,
    value=_value,
    cells=_cells,
    secret=True,
)
