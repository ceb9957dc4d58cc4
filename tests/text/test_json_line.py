"""Every line that is written is valid JSON in UTF-8, whatever columns a row brought."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from grm_jax.text.json_line import json_line


@pytest.mark.parametrize(
    ("value", "read_back"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (1.5, 1.5),
        (10**400, 10**400),
        (True, True),
        ("\ud83d", "\ufffd"),
        ({"\ud83d": 1, 2: [float("inf")]}, {"\ufffd": 1, "2": [None]}),
        ((1, "a"), [1, "a"]),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (b"\xff\x00", "/wA="),
        (Decimal("1.10"), "1.10"),
        (np.float32("nan"), None),
        (np.arange(2), [0, 1]),
    ],
)
def test_any_value_is_one_line_of_json(value, read_back):
    line = json_line({"value": value})
    assert line.endswith("\n")
    assert "\n" not in line[:-1]

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(line.encode().decode(), parse_constant=refuse) == {"value": read_back}
