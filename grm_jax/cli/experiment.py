"""`grm experiment`: one of the paper's experiments, with data, a table, a figure and a page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from grm_jax.evals.experiments import (
    ablations,
    judges,
    k_meta,
    lengths,
    list_pair,
    principles,
    reference,
    scaling,
    single,
    size,
)
from grm_jax.evals.experiments.findings import (
    Findings,
    Grid,
    incomplete,
    unanswered,
    write_findings,
)
from grm_jax.evals.scoring import Unanswered
from grm_jax.processes import is_first, say
from grm_jax.train.folder import run_folder

_EXPERIMENTS: dict[str, tuple[type, Callable[[Any, Path], Findings]]] = {
    "scaling": (scaling.ScalingConfig, scaling.run),
    "k-meta": (k_meta.KMetaConfig, k_meta.run),
    "input": (list_pair.InputConfig, list_pair.run),
    "reference": (reference.ReferenceConfig, reference.run),
    "single": (single.SingleConfig, single.run),
    "principles": (principles.PrinciplesConfig, principles.run),
    "size": (size.SizeConfig, size.run),
    "lengths": (lengths.LengthsConfig, lengths.run),
    "ablations": (ablations.AblationsConfig, ablations.run),
    "judges": (judges.JudgesConfig, judges.run),
}
# What the command line takes its options from.
EXPERIMENTS: dict[str, Any] = {name: kind for name, (kind, _) in _EXPERIMENTS.items()}


def run(config: Any) -> int:
    """Samples what is not there yet, measures it, prints the tables and writes the files; 1 where
    rows had no answer."""
    name, conduct = next(
        (name, conduct) for name, (kind, conduct) in _EXPERIMENTS.items() if kind is type(config)
    )
    output = config.output or f"runs/experiments/{name}"
    with run_folder(f"grm experiment {name}", output, config, reads_rows_again=True) as folder:
        try:
            findings = conduct(config, folder)
        except Unanswered as error:
            print(f"grm experiment: {error}", file=sys.stderr)
            return 1
        return _report(findings, folder) if is_first() else 0


def _report(findings: Findings, folder: Path) -> int:
    """Prints the tables and writes the files; 1 where rows had no answer."""
    lacking = unanswered(folder)
    findings = incomplete(findings, lacking)
    page = write_findings(findings, folder)
    console = Console()
    for grid in findings.grids:
        console.print(_table(grid))
    for sentence in findings.text[: len(lacking)]:
        say(sentence)
    say(f"Open {page} in a browser; the table is {folder / 'table.md'}.")
    return int(bool(lacking))


def _table(grid: Grid) -> Table:
    table = Table(title=grid.caption, title_justify="left")
    for index, name in enumerate(grid.columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    return table
