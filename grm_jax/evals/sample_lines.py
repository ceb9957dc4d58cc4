"""Lines of a file of samples, of which only those that are needed are parsed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grm_jax.judging.judgment import Sampled
from grm_jax.judging.samples import from_json


def read_lines(samples: Path) -> Iterator[str]:
    """The lines that have one in `rows.jsonl`, in the same order: all rows that were to be
    judged."""
    for line in _lines(samples):
        if _has_judgments(line) or _had_no_answer(json.loads(line)):
            yield line


def parse(line: str) -> Sampled:
    """The sampled judgments of a line."""
    return from_json(json.loads(line))


def errors(samples: Path) -> list[str]:
    """Why each row that had no answer had none."""
    refusals = (json.loads(line) for line in _lines(samples) if not _has_judgments(line))
    return [row["error"] for row in refusals if _had_no_answer(row)]


def _lines(samples: Path) -> Iterator[str]:
    with samples.open(encoding="utf-8") as file:
        yield from file


def _has_judgments(line: str) -> bool:
    # No text holds this: in JSON its quotes would be escaped.
    return '"judgments": [' in line


def _had_no_answer(row: dict[str, Any]) -> bool:
    """As `survey.had_no_answer`, of a line."""
    known = row.get("row")
    return known is not None and not known.get("left_out")
