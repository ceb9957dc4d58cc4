"""`grm compare A B`: two evaluations of the same rows, by paired differences."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grm_jax.cli.commands import CompareCommand
from grm_jax.cli.show_report import shown
from grm_jax.evals.benchmark import rows_had
from grm_jax.evals.compare_page import write_page
from grm_jax.evals.comparison import Comparison, compare
from grm_jax.outputs import check_file
from grm_jax.paths import expanded
from grm_jax.places import at_hand, is_address
from grm_jax.text.json_line import plain


def run(command: CompareCommand) -> int:
    """Compares, prints, and writes the page."""
    if is_address(command.b) and command.output is None:
        raise ValueError(
            f"{command.b} is an address, and the page would be written there: give --output, a "
            "file of this machine."
        )
    a, b = expanded(at_hand(command.a)), expanded(at_hand(command.b))
    page = b / f"compare-with-{a.resolve().name}.html"
    if command.output is not None:
        page = check_file(command.output, _is_page, "a page of grm")
    comparison = compare(a, b)
    _show(comparison)
    print(f"Open {write_page(page, comparison, a, b)} in a browser.")
    return 0


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return b'<meta name="generator" content="grm">' in file.read(500)


def _show(comparison: Comparison) -> None:
    table = Table("", *comparison.names, "difference", title=comparison.title, title_justify="left")
    for name, (before, after, difference) in comparison.cells.items():
        values = [shown({"value": plain(x), "low": None}) for x in (before, after)]
        table.add_row(name, *values, shown(plain(asdict(difference)), sign=True))
    console = Console()
    console.print(table)
    for (before, after), count in comparison.flips.items():
        console.print(f"{count} rows: {before} → {after}", markup=False)
    if comparison.unanswered:
        console.print(
            f"{rows_had(comparison.unanswered)} no answer from one of the two judges.", markup=False
        )
    if not comparison.flips:
        console.print("No verdict on a row has changed.")
