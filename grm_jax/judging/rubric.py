"""A rubric that people wrote: principles for all queries, or for each its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grm_jax.text.files import refuse_pointer
from grm_jax.text.messages import Example, Message, kind

SUFFIXES = (".txt", ".md", ".json", ".jsonl")
_NAMES = ("criterion", "name", "principle")
_FORMS = (
    'give text; {"accuracy": 6, "brevity": 2}; or a list of texts or of {"criterion", and if you '
    'like "weight" and "description"}'
)


@dataclass(frozen=True)
class Rubric:
    """The principles of all queries, or of each by its turns."""

    every: str | None
    by_query: Mapping[tuple[Message, ...], str]

    def of(self, example: Example) -> str | None:
        """The principles for an Example; None where there are none for its query."""
        return self.by_query.get(example.prompt, self.every)


def is_rubric(path: Path) -> bool:
    """Whether this names a file with a rubric, and not a folder."""
    return path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())


def read_rubric(path: Path) -> Rubric:
    """The rubric in a file.

    A .txt or .md file is the principles as they stand; .json holds criteria (see `as_principles`);
    each line of a .jsonl is {"prompt", "principles"}, for the rows with this prompt, and one
    without a prompt is for all others.

    Raises:
        FileNotFoundError, ValueError: it is missing, or holds something else; names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of principles at {path}.")
    refuse_pointer(path)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from None
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _by_query(path, text)
    every = text.strip() if suffix != ".json" else _principles(_json(text, str(path)), str(path))
    if not every:
        raise ValueError(f"{path} is empty: write the principles into it.")
    return Rubric(every, {})


def as_principles(criteria: Any) -> str:
    """Criteria as a critique states them: "accuracy (6), brevity (2)"; with descriptions a line
    each.

    criteria: text; a mapping of names to weights; or a list of texts, or of mappings with a
    criterion, and if you like a weight and a description.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(criteria, str):
        return criteria.strip()
    if isinstance(criteria, Mapping):
        criteria = [{"criterion": name, "weight": weight} for name, weight in criteria.items()]
    if not isinstance(criteria, Sequence) or not criteria:
        raise ValueError(f"the principles are {kind(criteria)}: {_FORMS}")
    parts = [_part(one) for one in criteria]
    described = any(":" in part or len(part) > 60 for part in parts)
    return "\n".join(parts) if described else ", ".join(parts)


def _part(one: Any) -> str:
    if isinstance(one, str) and one.strip():
        return one.strip()
    said = one if isinstance(one, Mapping) else {}
    name = next((said[n] for n in _NAMES if n in said), None)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a criterion is {kind(one)} without a name: {_FORMS}")
    weight, description = said.get("weight"), said.get("description")
    if isinstance(weight, bool) or not isinstance(weight, int | float | str | None):
        raise ValueError(f"the weight of {name!r} is {kind(weight)}: give a number")
    part = name.strip() if weight is None else f"{name.strip()} ({weight})"
    return f"{part}: {description.strip()}" if isinstance(description, str) else part


def _by_query(path: Path, text: str) -> Rubric:
    every, by_query = None, dict[tuple[Message, ...], str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _json(line, where)
        if not isinstance(row, dict) or "principles" not in row:
            raise ValueError(f'{where} is no {{"prompt", "principles"}}.')
        principles = _principles(row["principles"], where)
        if row.get("prompt") is None:
            every = principles
            continue
        try:
            # As rows are read: a system turn, for one, is put before the user's.
            prompt = Example(row["prompt"], [""]).prompt
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        by_query[prompt] = principles
    if every is None and not by_query:
        raise ValueError(f"{path} is empty: write the principles into it.")
    return Rubric(every, by_query)


def _principles(criteria: Any, where: str) -> str:
    try:
        principles = as_principles(criteria)
    except ValueError as error:
        raise ValueError(f"{where}: {error}.") from None
    if not principles:
        raise ValueError(f"{where}: the principles are empty.")
    return principles


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}).") from None
