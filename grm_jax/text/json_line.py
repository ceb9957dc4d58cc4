"""Whatever a row holds, as one line of valid JSON in UTF-8."""

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, time
from typing import Any

from grm_jax.text.messages import repair_surrogates


def json_line(row: Any) -> str:
    """The row as JSON with a newline, ready for a file in UTF-8; see `plain`."""
    return json.dumps(plain(row), ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The value in JSON's own types.

    Numbers that are not finite become null, dates and times ISO text, bytes base64, and what is
    known by no rule its `str`. Lone surrogates become U+FFFD, in keys too.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return repair_surrogates(value)
    if isinstance(value, Mapping):
        return {repair_surrogates(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain(value.tolist())
    return repair_surrogates(str(value))
