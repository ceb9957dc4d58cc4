"""`grm compare A B`: two evaluations of the same rows, by paired differences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grm_jax.cli.show_report import shown
from grm_jax.evals.benchmark import rows_had
from grm_jax.evals.compare_page import write_page
from grm_jax.evals.comparison import Comparison, compare
from grm_jax.evals.report import known
from grm_jax.outputs import check_file
from grm_jax.paths import expanded


@dataclass(frozen=True)
class CompareCommand:
    """Compare two evaluations of the same rows: grm compare FOLDER FOLDER.

    Prints the paired difference of every cell with its 95 % interval, and how many rows changed;
    writes a page with the critiques of such rows side by side.

    Args:
        a: The folder of the first evaluation.
        b: The folder of the second one, of which the first is taken away.
        output: The page; by default compare-with-A.html in the second folder.
    """

    a: str
    b: str
    output: str | None = None


def run(command: CompareCommand) -> int:
    """Compares, prints, and writes the page."""
    a, b = expanded(command.a), expanded(command.b)
    page = b / f"compare-with-{a.resolve().name}.html"
    if command.output is not None:
        page = check_file(command.output, _is_page, "a page of grm")
    found = compare(a, b)
    _show(found)
    print(f"Open {write_page(page, found, a, b)} in a browser.")
    return 0


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return b'<meta name="generator" content="grm">' in file.read(500)


def _show(found: Comparison) -> None:
    table = Table("", *found.names, "difference", title=found.title, title_justify="left")
    for name, (before, after, difference) in found.cells.items():
        values = [shown({"value": known(x), "low": None}) for x in (before, after)]
        table.add_row(name, *values, shown(known(asdict(difference)), sign=True))
    console = Console()
    console.print(table)
    for (before, after), count in found.flips.items():
        console.print(f"{count} rows: {before} → {after}", markup=False)
    if found.unanswered:
        console.print(f"{rows_had(found.unanswered)} no answer from one of the two.", markup=False)
    if not found.flips:
        console.print("No verdict on a row has changed.")
