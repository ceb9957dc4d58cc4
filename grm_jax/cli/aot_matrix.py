"""`grm aot matrix FILE`: many programs on many slices, and what training costs there."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from grm_jax.aot.config import AotMatrixCommand
from grm_jax.aot.matrix import fill
from grm_jax.aot.page import hours, page, share
from grm_jax.aot.plan import Plan, Verdict, plans, verdicts
from grm_jax.outputs import Made, claimed_folder, write_whole


def run(command: AotMatrixCommand) -> int:
    """Compiles what is left, prints, writes the page; 1 if a program did not compile.

    One that compiled and does not fit is a result.
    """
    settings = asdict(command)
    # A compiled program stays right whatever else is asked for, so every setting may change.
    made = Made("grm aot matrix", settings, free=tuple(settings))
    with claimed_folder(command.output, made, signs=["data.jsonl"]) as output:
        return _fill(command, output)


def _fill(command: AotMatrixCommand, output: Path) -> int:
    """As `run`, in a folder that is claimed."""
    rows = fill(command.groups, output / "data.jsonl", lambda text: print(text, file=sys.stderr))
    write_whole(output / "index.html", page(rows))
    console = Console()
    if made := plans(rows):
        console.print(_table(made))
    if judged := verdicts(rows):
        console.print(_verdicts(judged))
    failed = [row for row in rows if "error" in row]
    for row in failed:
        print(f"{row['command']}: {row['error']}", file=sys.stderr)
    print(f"{len(rows) - len(failed)} of {len(rows)} programs; see {output / 'index.html'}")
    return 1 if failed else 0


def _table(made: list[Plan]) -> Table:
    table = Table(title="900 steps of RFT and of RL, at the very best")
    for name in ("preset", "slice", "chips", "memory", "RFT step", "RFT", "RL step", "RL"):
        table.add_column(name, justify="left" if name in ("preset", "slice") else "right")
    for plan in made:
        table.add_row(
            plan.preset,
            plan.topology,
            str(plan.chips),
            share(plan),
            *(hours(x) for x in (plan.rft_step, plan.rft_hours, plan.rl_step, plan.rl_hours)),
        )
    return table


def _verdicts(made: list[Verdict]) -> Table:
    # Without lines between columns, since a pipe has 80 characters.
    table = Table(title="Verdicts, at the very best", box=box.SIMPLE_HEAD, collapse_padding=True)
    for name in ("preset", "slice", "memory", "k", "tokens", "slots", "chip-s", "chip-h\nof 1,000"):
        table.add_column(name, justify="left" if name in ("preset", "slice") else "right")
    for v in made:
        table.add_row(
            *(v.preset, v.topology, share(v), str(v.k), f"{v.length}+{v.new}"),
            *(str(v.at_a_time), hours(v.chip_seconds), hours(v.thousand)),
        )
    return table
