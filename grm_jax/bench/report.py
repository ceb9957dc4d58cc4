"""A result of `grm bench`: a row for each thing that was measured, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
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
    """The result for people."""
    machine, limits = told["machine"], told["limits"]
    shown = Table(
        "",
        *("seconds (range)", "tokens/s", "of bandwidth", "of FLOP/s", "of the floor"),
        *("compiling", "peak memory"),
        title=f"{machine['device']}: {limits['bandwidth'] / 1e9:.1f} GB/s in place, "
        f"{limits['flops'] / 1e9:.0f} GFLOP/s, both measured here",
    )
    for row in told["rows"]:
        times = row["all_seconds"]
        shown.add_row(
            row["name"],
            f"{row['seconds']:.3g} ({min(times):.3g} to {max(times):.3g})",
            f"{row['tokens_per_second']:.0f}",
            *map(_percent, (row["bandwidth_share"], row["flop_share"], row["floor_share"])),
            f"{row['compile_seconds']:.1f} s",
            f"{row['peak_bytes'] / 2**30:.2f} GiB",
        )
    return shown


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
