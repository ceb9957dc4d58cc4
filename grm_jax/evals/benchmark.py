"""A Benchmark: labelled rows, and the official rules that score verdicts on them.

An evaluation has three steps. `Benchmark.read` yields Examples. A judge writes k judgments of each
to a file of samples. One pass over that file turns the summed scores of each row into a few numbers
(`Benchmark.value`), which `Benchmark.cells` aggregates: once for every number of samples, and once
for every resampling of the rows in the bootstrap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from grm_jax.data.sources import BadRow
from grm_jax.text.messages import Example

# For each response, in the Example's order: the sum of its counted scores (equations 12-14) divided
# by the number of counted samples, so that rules that compare rows (ReaLMistake's ROC-AUC, Ties of
# RewardBench 2) can also compare rows in which some samples could not be read.
Totals = tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """All rows of an evaluation under one vote: one k, guided or not, one choice of samples.

    Attributes:
        subset: [R] the subset of each row (`Example.meta["subset"]`).
        unit: [R] rows of one unit, such as the pairs of one question, are drawn together in the
            bootstrap: `Example.meta["unit"]`, or else the Example's id.
        values: [R, W] what `Benchmark.value` returned.
        extremes: what it returns for the same rows judged perfectly, and judged as wrongly as
            possible: two arrays [R, W]. Intervals need them.
        line: [R] the line of each row in its file, by which two Tables are paired.
    """

    subset: np.ndarray
    unit: np.ndarray
    values: np.ndarray
    extremes: tuple[np.ndarray, np.ndarray] | None = field(default=None, kw_only=True)
    line: np.ndarray | None = field(default=None, kw_only=True)

    def of(self, *subsets: str) -> np.ndarray:
        """The values [r, W] of the rows of these subsets."""
        return self.values[np.isin(self.subset, subsets)]


def rows_by_subset(table: Table) -> dict[str, int]:
    """The number of rows of each subset."""
    return dict(Counter(table.subset.tolist()))


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and its official rules.

    Attributes:
        name: its name on the command line, such as "rewardbench".
        title: its name in print, such as "RewardBench".
        hub: where `read` looks by default: a hub id, or a few words if it is not on the hub.
        full: the number of rows of each subset in the benchmark's own files. An evaluation with
            fewer or more is partial, which is said wherever the title is printed.
        headline: the cell that sums up the benchmark.
        read: Examples from a hub id or a local path (None: the official source), each with
            meta["subset"], and BadRows. Raises FileNotFoundError or ValueError; the message says
            what is missing.
        value: (Example, Totals or None if no sample could be read, scalar) -> W numbers, as a named
            tuple if there are several. scalar: the totals are those of a scalar model, for which
            some benchmarks have a rule of their own.
        cells: a Table -> percentages by name, in the order in which they are shown; nan for a
            subset without rows, and for whatever is computed from it.
        count: how many of the rows counted in `full` a Table has, by subset. Not always one each: a
            question with five pairs is one row, and a tied vote is counted with the next one.
        leaves_out: (Example, scalar) -> a sentence on why the official script for this kind of
            judge leaves the row out, or nothing. Such a row is not judged, and is not missing.
        sections: the subsets behind a cell, if its name does not say so.
        secret: its authors ask that none of its text be published. Ids and numbers of rows may be
            written to a file, but no prompt, response or critique.
    """

    name: str
    title: str
    hub: str
    full: Mapping[str, int]
    headline: str
    read: Callable[[str | None], Iterator[Example | BadRow]]
    value: Callable[[Example, Totals | None, bool], tuple[float, ...]]
    cells: Callable[[Table], dict[str, float]]
    count: Callable[[Table], dict[str, int]] = rows_by_subset
    leaves_out: Callable[[Example, bool], str] = lambda example, scalar: ""
    sections: Mapping[str, Collection[str]] = field(default_factory=dict)
    secret: bool = False

    def subset(self, example: Example) -> str:
        """The subset of a row."""
        return str(example.meta.get("subset", self.name))

    def unit(self, example: Example) -> str:
        """The unit of a row in the bootstrap."""
        return str(example.meta.get("unit", example.id))

    def label(self, rows: Mapping[str, int], unanswered: int = 0) -> str:
        """The title, with "(partial: ...)" if `rows`, by subset, are not all rows, and with
        "(incomplete: ...)" if some had no answer."""
        notes = []
        if unanswered:
            notes.append(f"incomplete: {rows_had(unanswered)} no answer")
        if dict(rows) != dict(self.full):
            notes.append(f"partial: {sum(rows.values())} of {sum(self.full.values())} rows")
        return f"{self.title} ({'; '.join(notes)})" if notes else self.title

    def lacking(self, cell: str, unanswered: Mapping[str, int]) -> int:
        """How many of the rows behind a cell had no answer, given the number in each subset."""
        # "MMLU-Pro, k = 8" and "Ties: margin" begin with the name of their subset.
        named = [s for s in self.full if cell == s or cell.startswith((f"{s}, ", f"{s}: "))]
        behind = self.sections.get(cell) or named or unanswered
        return sum(unanswered.get(subset, 0) for subset in behind)

    def missing(self, rows: Mapping[str, int]) -> list[str]:
        """What makes it partial: "donotanswer: 0 of 136" for each incomplete subset."""
        return [
            f"{subset}: {rows.get(subset, 0)} of {count}"
            for subset, count in self.full.items()
            if rows.get(subset, 0) != count
        ]


def rows_had(count: int) -> str:
    """The start of a sentence: "1 row had", "2 rows had"."""
    return f"{count:,} row{'' if count == 1 else 's'} had"


def extreme_totals(example: Example) -> tuple[Totals, Totals]:
    """The totals of a perfect judge, and those of a judge that is as wrong as possible."""
    if example.n == 1:
        # Above or below every other response, whatever the scale.
        best = (math.inf if example.label else -math.inf,)
    elif example.scores is not None:
        best = example.scores
    else:
        best = tuple(float(i == example.label) for i in range(example.n))
    return best, tuple(-total for total in best)


def credit(totals: Totals | None, label: int) -> float:
    """1/m if the labelled response is among the m with the highest total, else 0: the expected
    value of breaking ties at random. 0 if no sample could be read."""
    if totals is None:
        return 0.0
    top = max(totals)
    return float(totals[label] == top) / sum(total == top for total in totals)
