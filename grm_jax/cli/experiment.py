"""`grm experiment`: one of the paper's experiments, with data, a table, a figure and a page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from grm_jax.cli.commands import EXPERIMENTS
from grm_jax.devices import say_devices
from grm_jax.evals.experiments import (
    ablations,
    judges,
    k_meta,
    lengths,
    list_pair,
    principles,
    real,
    reference,
    scaling,
    single,
    size,
)
from grm_jax.evals.experiments.config import Setting, named_judges
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

_RUN: dict[str, Callable[[Any, Path], Findings]] = {
    "scaling": scaling.run,
    "k-meta": k_meta.run,
    "input": list_pair.run,
    "reference": reference.run,
    "single": single.run,
    "principles": principles.run,
    "size": size.run,
    "lengths": lengths.run,
    "ablations": ablations.run,
    "judges": judges.run,
    "real": real.run,
}


def run(config: Any) -> int:
    """Samples what is missing, measures, prints the tables and writes the files; 1 if rows had no
    answer."""
    name = next(name for name, kind in EXPERIMENTS.items() if kind is type(config))
    conduct = _RUN[name]
    output = config.output or f"runs/experiments/{name}"
    with run_folder(f"grm experiment {name}", output, config, reads_rows_again=True) as folder:
        if isinstance(config, Setting) and _computes(config):
            say_devices(None)
        try:
            findings = conduct(config, folder)
        except Unanswered as error:
            print(f"grm experiment: {error}", file=sys.stderr)
            return 1
        return _report(findings, folder) if is_first() else 0


def _computes(setting: Setting) -> bool:
    """Whether a model is asked here, and not only a server, or a file of samples."""
    judges = named_judges(setting).values()
    return setting.meta_rm is not None or any(
        judge.endpoint is None and judge.samples is None for judge in judges
    )


def _report(findings: Findings, folder: Path) -> int:
    """Prints the tables and writes the files; 1 if rows had no answer."""
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
