"""`grm aot`: compiles a program for absent TPUs, and says what it will cost there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from grm_jax.aot.config import PROGRAMS, AotCommand
from grm_jax.aot.layers import shortened
from grm_jax.aot.measure import Cost, extrapolate, measure
from grm_jax.aot.programs import build
from grm_jax.aot.saved import is_program, save_program
from grm_jax.aot.topology import Topology
from grm_jax.aot.work import Program, Work
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS
from grm_jax.outputs import check_file, json_with, write_whole

# The share of a chip's memory that a program under remat "auto" may take: a run has more in it.
ROOM = 0.8


def run(command: AotCommand) -> int:
    """Compiles, prints and writes; 1 if the program does not fit."""
    output, save = _outputs(command)
    topology = Topology(command.topology)
    work, program, cost, compiled = _compiled(command, topology)
    show(command, topology, _shape(program), work.remat, cost)
    if output is not None:
        row = {
            "preset": command.preset,
            "topology": command.topology,
            "program": command.program,
            "mesh": dict(program.mesh.shape),
            "sequences": work.sequences,
            "group": command.group,
            "length": command.length,
            "remat": work.remat,
            "new": command.new if command.program == "decode" else None,
            **cost.to_json(),
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, json.dumps(row, indent=1) + "\n")
    if save is not None and compiled is not None:
        save_program(save, compiled, program.mesh)
    return 0 if cost.fits else 1


def _compiled(command: AotCommand, topology: Topology) -> tuple[Work, Program, Cost, Any]:
    """The program as asked for; under remat "auto" the first one that leaves room."""
    given = PROGRAMS[command.program][0] if command.sequences is None else command.sequences
    devices = topology.devices()
    ways = command.remat_ways
    for remat in ways:
        work = Work(given, command.length, command.new, command.group, command.microbatches, remat)
        program = build(command.program, PRESETS[command.preset], devices, work, command.mesh)
        print(
            f"Compiling {command.program} of {command.preset} for {topology.chips} chips "
            f"({_shape(program)}); the large ones take minutes.",
            file=sys.stderr,
        )
        if command.extrapolate:
            cost, compiled = _extrapolated(command, program, work, topology), None
        else:
            cost, compiled = measure(program, topology)
        if cost.peak is not None and cost.peak + cost.resident <= ROOM * cost.hbm:
            break
    return work, program, cost, compiled


def _extrapolated(command: AotCommand, whole: Program, work: Work, topology: Topology) -> Cost:
    """The cost of the whole program, from two with fewer layers on the same mesh."""
    config, shape = PRESETS[command.preset], MeshConfig(**whole.mesh.shape)
    configs, devices = shortened(config), topology.devices()
    one, two = (build(command.program, each, devices, work, shape) for each in configs)
    first, second = (each.num_layers for each in configs)
    times = (config.num_layers - first) / (second - first)
    cost = extrapolate((one, two), times, whole, topology)
    return replace(cost, layers=(first, second))


def _shape(program: Program) -> str:
    return " ".join(f"{name}={size}" for name, size in program.mesh.shape.items())


def _outputs(command: AotCommand) -> tuple[Path | None, Path | None]:
    """Where the result and the program go, checked before minutes are spent on compiling.

    Raises:
        ValueError: a file that is not ours is there.
    """
    cost = json_with("preset", "topology", "program")
    output, save = command.output, command.save
    return (
        None if output is None else check_file(output, cost, "a result of grm aot"),
        None if save is None else check_file(save, is_program, "a program that grm aot has saved"),
    )


def show(command: AotCommand, topology: Topology, shape: str, remat: str, cost: Cost) -> None:
    """The result as a table."""
    table = Table(
        title=f"{command.program}, {command.preset}, {command.topology} ({shape})",
        show_header=False,
    )
    table.add_column()
    table.add_column(justify="right")
    devices = "chip" if topology.chip.devices == 1 else "device (half a chip)"
    verdict = "fits" if cost.fits else "does not fit"
    if cost.reason is not None:
        table.add_row("verdict", f"{verdict}: {cost.reason}")
    else:
        if len(command.remat_ways) > 1:
            table.add_row("remat", remat)
        for name, value in _rows(cost):
            table.add_row(name, value)
        total = (cost.peak or 0.0) + cost.resident
        table.add_row("verdict", f"{verdict}: {size(total)} of {size(cost.hbm)} per {devices}")
    console = Console()
    console.print(table)
    console.print(f"Compiled in {cost.compile_seconds:.0f} s, {size(cost.host_bytes)} here.")
    if cost.layers is not None:
        console.print(
            f"Compiled with {cost.layers[0]} and with {cost.layers[1]} of "
            f"{PRESETS[command.preset].num_layers} layers; the rest is a straight line."
        )


def _rows(cost: Cost) -> list[tuple[str, str]]:
    """The lines of the table for a program that compiled."""

    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g} s"

    sent = ", ".join(
        f"{kind} {size(moved)} ({(cost.collectives or {}).get(kind, 0):,} times)"
        for kind, moved in sorted((cost.sent or {}).items())
    )
    return [
        ("arguments", size(cost.arguments)),
        ("temporaries", size(cost.temporaries)),
        ("new output", size(cost.output)),
        ("beside it", size(cost.resident)),
        ("operations", f"{_si(cost.flops)}FLOP (analytic {_si(cost.flops_analytic)}FLOP)"),
        ("from and to memory", size(cost.moved)),
        ("to other chips", sent or "nothing"),
        ("time of arithmetic", seconds(cost.seconds_compute)),
        ("time of memory", seconds(cost.seconds_memory)),
        ("time of network", seconds(cost.seconds_network)),
        ("at best", f"{seconds(cost.seconds)}, bound by {cost.bound}"),
        ("tokens per second at most", f"{cost.tokens_per_second or 0:,.0f}"),
        ("MFU at most", f"{100 * (cost.mfu or 0):.1f} %"),
    ]


def size(value: float | None) -> str:
    """Bytes, for people."""
    if value is None:
        return "–"
    power = max((p for p in range(5) if abs(value) >= 1024**p), default=0)
    return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _si(value: float | None) -> str:
    """A large number with its letter."""
    if value is None:
        return "– "
    power = max((p for p in range(6) if abs(value) >= 1000**p), default=0)
    return f"{value / 1000**power:.4g} {('', 'k', 'M', 'G', 'T', 'P')[power]}"
