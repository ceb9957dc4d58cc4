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
from grm_jax.train.folder import claimed

EXPERIMENTS: dict[str, Any] = {
    "scaling": scaling.ScalingConfig,
    "k-meta": k_meta.KMetaConfig,
    "input": list_pair.InputConfig,
    "reference": reference.ReferenceConfig,
    "single": single.SingleConfig,
    "principles": principles.PrinciplesConfig,
    "size": size.SizeConfig,
    "lengths": lengths.LengthsConfig,
    "ablations": ablations.AblationsConfig,
    "judges": judges.JudgesConfig,
}
_RUN: dict[type, Callable[[Any, Path], Findings]] = {
    scaling.ScalingConfig: scaling.run,
    k_meta.KMetaConfig: k_meta.run,
    list_pair.InputConfig: list_pair.run,
    reference.ReferenceConfig: reference.run,
    single.SingleConfig: single.run,
    principles.PrinciplesConfig: principles.run,
    size.SizeConfig: size.run,
    lengths.LengthsConfig: lengths.run,
    ablations.AblationsConfig: ablations.run,
    judges.JudgesConfig: judges.run,
}


def run(config: Any) -> int:
    """Samples what is not there yet, measures it, prints the tables and writes the files; 1 where
    rows had no answer."""
    name = next(name for name, kind in EXPERIMENTS.items() if kind is type(config))
    output = config.output or f"runs/experiments/{name}"
    with claimed(config, f"grm experiment {name}", output=output, looks_at_rows=True) as folder:
        return _run(config, folder)


def _run(config: Any, folder: Path) -> int:
    """As `run`, in a folder that is claimed."""
    try:
        found = _RUN[type(config)](config, folder)
    except Unanswered as error:
        print(f"grm experiment: {error}", file=sys.stderr)
        return 1
    if is_first():
        lacking = unanswered(folder)
        found = incomplete(found, lacking)
        page = write_findings(found, folder)
        console = Console()
        for grid in found.grids:
            console.print(_table(grid))
        for sentence in found.text[: len(lacking)]:
            say(sentence)
        say(f"Open {page} in a browser; the table is {folder / 'table.md'}.")
        return int(bool(lacking))
    return 0


def _table(grid: Grid) -> Table:
    table = Table(title=grid.caption, title_justify="left")
    for place, name in enumerate(grid.columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    return table
