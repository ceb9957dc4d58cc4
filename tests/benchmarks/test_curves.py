"""Cost along an axis, with times that are made up: the file and the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import curves
from benchmarks.curves import Curve, with_responses
from grm_jax.bench.timing import Timing
from grm_jax.text.messages import Example


def test_each_axis_has_its_points_and_its_panel(tmp_path: Path, monkeypatch) -> None:
    def made_up(*_):
        timing = lambda value: Timing((2.0 * value, 3.0 * value, 2.5 * value), 1.0, 1)  # noqa: E731
        return [Curve("samples (k)", (1, 2, 8), timing), Curve("rows", (4, 16), timing)]

    monkeypatch.setattr(curves, "curves", made_up)
    assert curves.main(["--output", str(tmp_path / "new")]) == 0
    told = json.loads((tmp_path / "new" / "curves.json").read_text())
    assert [point["seconds"] for point in told["samples (k)"]] == [2.5, 5.0, 20.0]
    assert (tmp_path / "new" / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_have_as_many_responses_as_asked_all_different(count: int) -> None:
    (row,) = with_responses([Example(prompt="What is 37+45?", responses=["82", "81"])], count)
    assert row.n == len(set(row.responses)) == count
