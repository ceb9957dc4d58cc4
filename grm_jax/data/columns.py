"""What one column of a row holds, as text, a number, a label or the answer of a model.

Values are converted where their meaning is clear; otherwise ValueError says what is wrong.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from grm_jax.text.json_line import plain
from grm_jax.text.messages import joined_parts, kind, shown, turn_role

Row = dict[str, Any]

TURN_TEXT = ("content", "value", "answer", "solution", "response", "text")
DEEPEST = 64
WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}(\.0*)?\s*", re.ASCII)


def empty(value: Any) -> bool:
    """Whether the value says nothing: null, or text, a list or an object without content."""
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def too_deep(value: Any, depth: int = DEEPEST) -> bool:
    """Whether lists and objects are nested deeper than that."""
    if not isinstance(value, Mapping | list | tuple):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return depth == 0 or any(too_deep(item, depth - 1) for item in inner)


def as_text(value: Any) -> str | None:
    """Any value as text for a judge; None for an empty one.

    Lists have an item per line; objects become JSON.
    """
    value = plain(value)
    if empty(value):
        return None
    if isinstance(value, list):
        return "\n".join(filter(None, map(_line, value))) or None
    return _line(value)


def _line(value: Any) -> str:
    if isinstance(value, str):
        return value
    # Parquet turns 85 into 85.0 in a column with gaps.
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def take_text(row: Row, *names: str) -> str | None:
    """The first of the columns that is not empty, as text, removed from the row."""
    for name in names:
        if not empty(row.get(name)):
            return as_text(row.pop(name))
    return None


def answer(value: Any, name: str) -> str:
    """The text of a response: text, a turn such as {"role", "content"}, or a list of one turn."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        turns = [turn for turn in value if isinstance(turn, Mapping) and turn_role(turn)]
        if turns and len(value) > 1:
            raise ValueError(f"{name} holds {len(value)} turns: give the last one, the response")
        if turns and turn_role(turns[0]) != "assistant":
            raise ValueError(f"{name} is a turn of {shown(turn_role(turns[0]))}: give a response")
        value = value[0] if turns else value
    if isinstance(value, Mapping):
        value = next((value[key] for key in TURN_TEXT if value.get(key) is not None), None)
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return joined_parts(value, name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {kind(value)}: give text")
    return value


def integer(value: Any, name: str) -> int:
    """The value as an integer; 1.0 counts (Parquet writes it for 1 in a column with gaps), and "1"
    (CSV)."""
    if isinstance(value, str) and WHOLE.fullmatch(value):
        value = int(value.split(".")[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {shown(value)}: give an integer")
    return value


def take_label(row: Row, count: int) -> int | bool | None:
    """The column label, taken out of the row: of a single response also true or false."""
    label = row.pop("label", None)
    if isinstance(label, str) and not label.strip():
        return None
    if count == 1 and isinstance(label, str) and label.strip().lower() in ("true", "false"):
        return label.strip().lower() == "true"
    if label is None or (count == 1 and isinstance(label, bool)):
        return label
    return integer(label, "label")


def numbers(values: Any, name: str) -> list[float]:
    """The values as numbers."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{name} is {kind(values)}: give a list of numbers, one per response")
    try:
        return [float(value) for value in values]
    except OverflowError:
        raise ValueError(f"{name} holds {shown(values)}: one is too large a number") from None
    except (TypeError, ValueError):
        raise ValueError(f"{name} holds {shown(values)}: give numbers, one per response") from None
