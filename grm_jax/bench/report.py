"""A result of `grm bench`: a row for each thing that was measured, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from grm_jax import __version__
from grm_jax.bench.limits import Limits
from grm_jax.bench.timing import Timing
from grm_jax.bench.work import Work, floor_seconds
from grm_jax.outputs import check_file, json_with, write_whole


@dataclass(frozen=True)
class Row:
    """One thing that was timed: so many tokens, and the least work that they take, by phase (of
    none the work is not known)."""

    name: str
    tokens: int
    timing: Timing
    phases: tuple[Work, ...] = ()


def check_output(output: str | None) -> Path | None:
    """Where the result goes, before minutes go into it.

    Raises:
        ValueError: something else is there.
    """
    ours = json_with("settings", "machine", "limits", "rows")
    return None if output is None else check_file(output, ours, "a result of grm bench")


def report(command: Any, rows: Sequence[Row], limits: Limits, output: Path | None) -> None:
    """Prints the table, and writes the file."""
    told = {
        "settings": asdict(command),
        "machine": _machine(),
        "limits": asdict(limits),
        "rows": [to_json(row, limits) for row in rows],
    }
    Console().print(table(told))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, json.dumps(told, indent=2) + "\n")


def to_json(row: Row, limits: Limits) -> dict[str, Any]:
    """The row with what follows from it; shares are of the limits, 0 to 1, or None."""
    seconds = row.timing.median
    of_bytes, of_flops, of_floor = (
        (
            sum(phase.bytes for phase in row.phases) / seconds / limits.bandwidth,
            sum(phase.flops for phase in row.phases) / seconds / limits.flops,
            floor_seconds(row.phases, limits) / seconds,
        )
        if row.phases
        else (None, None, None)
    )
    return {
        "name": row.name,
        "tokens": row.tokens,
        "seconds": seconds,
        "all_seconds": row.timing.seconds,
        "tokens_per_second": row.tokens / seconds,
        "bandwidth_share": of_bytes,
        "flop_share": of_flops,
        "floor_share": of_floor,
        "compile_seconds": row.timing.compile_seconds,
        "peak_bytes": row.timing.peak_bytes,
    }


def table(told: dict[str, Any]) -> Table:
    """The result for people: a column for each row, since a terminal is narrow."""
    limits = told["limits"]
    shown = Table("", title=told["machine"]["device"], caption="Shares are of limits measured here")
    for row in told["rows"]:
        shown.add_column(row["name"], justify="right")
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "seconds": lambda row: f"{row['seconds']:.3g}",
        "from, to": lambda row: "{:.3g}, {:.3g}".format(*_range(row["all_seconds"])),
        "tokens/s": lambda row: f"{row['tokens_per_second']:,.0f}",
        f"of {limits['bandwidth'] / 1e9:,.1f} GB/s": lambda row: _percent(row["bandwidth_share"]),
        f"of {limits['flops'] / 1e9:,.0f} GFLOP/s": lambda row: _percent(row["flop_share"]),
        "of the floor": lambda row: _percent(row["floor_share"]),
        "compiling": lambda row: f"{row['compile_seconds']:.1f} s",
        "peak memory": lambda row: f"{row['peak_bytes'] / 2**30:.2f} GiB",
    }
    for name, tell in lines.items():
        shown.add_row(name, *map(tell, told["rows"]))
    return shown


def _range(times: Sequence[float]) -> tuple[float, float]:
    return min(times), max(times)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _machine() -> dict[str, Any]:
    """Where it was measured, and how busy that was."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "grm_jax": __version__,
    }
