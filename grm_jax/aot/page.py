"""The page of `grm aot matrix`: the programs, their costs per chip, and what SPCT would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grm_jax.aot.plan import Plan, Row, Verdict, plans, smallest, verdicts
from grm_jax.evals.template import render

GIB = 2.0**30
PARTS = ("compute", "memory", "network")


def page(rows: Sequence[Row]) -> str:
    """HTML in one file that loads nothing; equal rows give equal pages."""
    compiled = [_bars(row) for row in rows if "error" not in row]
    made = plans(rows)
    return render(
        Path(__file__).parent / "templates" / "aot.html",
        {"hours": hours, "gib": _gib, "share": share},
        rows=compiled,
        failed=[row for row in rows if "error" in row],
        plans=made,
        smallest=smallest(made),
        verdicts=verdicts(rows),
    )


def hours(value: float | None) -> str:
    """A number with three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def share(plan: Plan | Verdict) -> str:
    """The share of the chip's memory that the largest program takes."""
    if plan.used is None:
        return "does not fit" if plan.fits is False else "–"
    percent = f"{100 * plan.used:.0f} %"
    return percent if plan.fits is not False else f"does not fit ({percent})"


def _gib(value: float | None) -> str:
    return "–" if value is None else f"{value / GIB:.3g}"


def _bars(row: Row) -> dict[str, Any]:
    """A row, with times as shares of the longest and memory as shares of the chip's."""
    made: dict[str, Any] = dict(row)
    if row["peak"] is None:
        return made | {"times": None, "memory": None}
    times = [row[f"seconds_{part}"] for part in PARTS]
    made["times"] = [
        {"name": part, "seconds": time, "width": 100 * time / max(times)}
        for part, time in zip(PARTS, times, strict=True)
    ]
    sizes = {
        "arguments": row["arguments"],
        "temporaries": row["temporaries"],
        "output": row["output"],
        "beside it": row["resident"],
    }
    whole = max(row["hbm"], sum(sizes.values()))
    made["memory"] = [
        {"name": name, "size": size, "width": 100 * size / whole} for name, size in sizes.items()
    ]
    return made
