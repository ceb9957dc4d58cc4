"""`grm aot cost`: what verdicts and SPCT cost at least, in chip-hours and in money."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from grm_jax.aot.arguments import stored_model
from grm_jax.aot.chips import CHIPS
from grm_jax.aot.config import AotCostCommand
from grm_jax.aot.spending import chips_to_judge, chips_to_train, spct, verdict
from grm_jax.models.config import PRESETS
from grm_jax.outputs import check_file, json_with, write_whole

HOUR = 3600


def run(command: AotCostCommand) -> int:
    """Prints and writes what it costs."""
    ours = json_with("preset", "chip", "verdict")
    output = command.output and check_file(command.output, ours, "a result of grm aot cost")
    model, small = (stored_model(PRESETS[name]) for name in (command.preset, command.spct.small))
    chip, work = CHIPS[command.chip], command.verdict
    made = {
        **asdict(command),
        "chips_to_judge": chips_to_judge(model, chip, work),
        "chips_to_train": chips_to_train(model, chip),
        "seconds_verdict": verdict(model, chip, work),
        "seconds_spct": spct(model, small, chip, work, command.spct),
    }
    _show(command, made)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, json.dumps(made, indent=1) + "\n")
    return 0


def _show(command: AotCostCommand, made: dict[str, Any]) -> None:
    """The two tables; chip-seconds of `made` are at the peaks."""
    work, console = command.verdict, Console()
    title = (
        f"1,000 verdicts of {command.preset} on {command.chip}: k = {work.k}, {work.prompt:,} + "
        f"{work.new:,} tokens, {work.slots:,} samples at a time; {made['chips_to_judge']} or more"
    )
    thousand = {name: 1000 * cost for name, cost in made["seconds_verdict"].items()}
    console.print(_table(title, thousand, command))
    title = f"SPCT of {command.preset} on {command.chip}; {made['chips_to_train']} or more"
    console.print(_table(title, made["seconds_spct"], command))


def _table(title: str, seconds: dict[str, float], command: AotCostCommand) -> Table:
    """Chip-hours at the peaks, at the efficiency, and what they are billed."""
    table = Table(title=title)
    table.add_column("")
    table.add_column("chip-hours at best", justify="right")
    table.add_column(f"at {100 * command.efficiency:g} %", justify="right")
    if command.price is not None:
        table.add_column(f"at {command.price:g} an hour", justify="right")
    for name, cost in {**seconds, "all": sum(seconds.values())}.items():
        best = cost / HOUR
        real = best / command.efficiency
        cells = [_number(best), _number(real)]
        if command.price is not None:
            cells.append(_number(real * command.price))
        table.add_row(name, *cells)
    return table


def _number(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
