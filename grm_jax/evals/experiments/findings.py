"""The findings of an experiment, and their files: data, tables, figures, and one page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grm_jax.evals.benchmark import rows_had
from grm_jax.evals.experiments.figures import Figure, draw_png, draw_svg
from grm_jax.evals.intervals import Interval
from grm_jax.evals.page_parts import TEMPLATES
from grm_jax.evals.survey import had_no_answer
from grm_jax.evals.template import render, write
from grm_jax.judging.judgment import Refusal
from grm_jax.judging.samples import read_samples

NONE = "–"
# The name of the paper's numbers beside ours.
THEIRS = "DeepSeek-GRM-27B on the real benchmarks"


@dataclass(frozen=True)
class Grid:
    """A table of texts: a caption, the names of its columns, and rows with a cell for each.

    Raises:
        ValueError: a row does not have one cell per column.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"the row {row} has {len(row)} cells for {len(self.columns)} columns."
                )
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(map(tuple, self.rows)))

    def markdown(self) -> str:
        """The table in GitHub's Markdown, numbers to the right, the caption before it."""
        bars = ["|" + "|".join(map(_cell, row)) + "|" for row in (self.columns, *self.rows)]
        rule = "|" + "|".join([" --- ", *[" ---: "] * (len(self.columns) - 1)]) + "|"
        return "\n".join([f"{self.caption}", "", bars[0], rule, *bars[1:]]) + "\n"


@dataclass(frozen=True)
class Findings:
    """The findings of an experiment.

    Attributes:
        name, title: of the experiment, in the command and in the paper.
        text: sentences on what was done, and on what the numbers do not show.
        grids, figures: the experiment's own comes first; the paper's may follow.
        data: the numbers behind them, ready for JSON.
    """

    name: str
    title: str
    text: tuple[str, ...]
    grids: tuple[Grid, ...]
    figures: tuple[Figure, ...]
    data: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """All tables, under the title and the text."""
        parts = [f"# {self.title}", *self.text, *(grid.markdown() for grid in self.grids)]
        return "\n\n".join(part.rstrip() for part in parts) + "\n"


def unanswered(folder: Path) -> dict[str, tuple[int, str]]:
    """How many rows had no answer and why the first of them had none, for each file of samples
    below this folder that has such rows, by the file's own folder."""
    result: dict[str, tuple[int, str]] = {}
    for path in sorted(folder.rglob("samples.jsonl")):
        rows = (row for row in read_samples(path) if had_no_answer(row))
        errors = [row.error for row in rows if isinstance(row, Refusal)]
        if errors:
            result[str(path.parent.relative_to(folder))] = len(errors), errors[0]
    return result


def incomplete(findings: Findings, lacking: Mapping[str, tuple[int, str]]) -> Findings:
    """The findings, marked as incomplete wherever their numbers are shown if rows had no answer.

    lacking: as `unanswered`.
    """
    if not lacking:
        return findings
    notes = tuple(
        f"Incomplete: {rows_had(count)} no answer from {name}, and are in none of its numbers. The "
        f"first: {error}"
        for name, (count, error) in lacking.items()
    )
    (grid, *grids), (figure, *figures) = findings.grids, findings.figures
    return replace(
        findings,
        title=f"{findings.title} (incomplete)",
        text=(*notes, *findings.text),
        grids=(replace(grid, caption=f"Incomplete. {grid.caption}"), *grids),
        figures=(replace(figure, title=f"Incomplete. {figure.title}"), *figures),
        data={"unanswered": {name: count for name, (count, _) in lacking.items()}, **findings.data},
    )


def write_findings(findings: Findings, folder: Path) -> Path:
    """Writes data.json, table.md, a .svg and a .png per figure, and index.html; equal findings give
    equal bytes.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [(figure, draw_svg(figure)) for figure in findings.figures]
    write(folder / "data.json", json.dumps(findings.data, indent=1) + "\n")
    write(folder / "table.md", findings.markdown())
    for figure, svg in pictures:
        # A file of its own needs a namespace, and a value for currentColor.
        head = '<svg xmlns="http://www.w3.org/2000/svg" color="#1b1d20"'
        alone = svg if "xmlns=" in svg.split(">", 1)[0] else svg.replace("<svg", head, 1)
        write(folder / f"{figure.name}.svg", str(alone) + "\n")
        draw_png(figure, folder / f"{figure.name}.png")
    page = render(TEMPLATES / "experiment.html", {}, findings=findings, pictures=pictures)
    return write(folder / "index.html", page)


def shown(value: Interval | None, *, sign: bool = False) -> str:
    """A value with its 95 % interval: "71.0 [69.8, 72.1]"; a dash where there is none."""
    if value is None or math.isnan(value.value):
        return NONE
    # Adding zero turns a negative zero into a positive one.
    middle, low, high = (round(x, 1) + 0.0 for x in (value.value, value.low, value.high))
    return (
        f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"
        if sign
        else f"{middle:.1f} [{low:.1f}, {high:.1f}]"
    )


def plain(value: float | None) -> str:
    """A number in the paper; a dash if it prints none."""
    return NONE if value is None else f"{value:.1f}"


def _cell(text: str) -> str:
    return f" {text.replace('|', chr(92) + '|')} "
