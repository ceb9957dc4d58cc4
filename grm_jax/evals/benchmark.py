"""A Benchmark: labelled rows, and its own rules for what a verdict on one of them is worth.

An evaluation has three steps. `Benchmark.read` yields Examples; a judge writes k judgments of each
to a file of samples; one pass over that file turns the summed scores of each row into a few numbers
(`Benchmark.value`), and `Benchmark.cells` aggregates them, for every number of samples and, in the
bootstrap, for every resampling of the rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from grm_jax.data.sources import BadRow
from grm_jax.text.messages import Example

# Per response the sum of its counted scores (equations 12-14), in the Example's order, over the
# number of counted samples: a rule that compares rows (ReaLMistake's ROC-AUC, RewardBench 2's Ties)
# can then compare those in which some samples were unreadable with the others.
Totals = tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """All rows of an evaluation, for one way to vote (one k, guided or not, one choice of samples).

    Attributes:
        subset: [R] the subset that each row belongs to (`Example.meta["subset"]`).
        unit: [R] rows of one unit are drawn together in the bootstrap: the pairs of one question.
            `Example.meta["unit"]`, or else the Example's id.
        values: [R, W] what `Benchmark.value` returned.
        extremes: what it returns for the same rows judged perfectly, and as wrongly as can be: two
            arrays [R, W]. Intervals need them.
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
    """How many rows of the table each subset has."""
    return dict(Counter(table.subset.tolist()))


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, by its official rules.

    Attributes:
        name: what the command line calls it, such as "rewardbench".
        title: what people call it, such as "RewardBench".
        hub: where `read` looks by default: a hub id, or a few words where there is none.
        full: how many rows each subset has in the benchmark's own files; with fewer, or more, an
            evaluation is partial, which is said wherever the title is printed.
        headline: the one of `cells` that sums up the benchmark.
        read: Examples from a hub id or a local path (None: the official source), each with
            meta["subset"], and BadRows. Raises FileNotFoundError or ValueError with a sentence that
            says what is missing.
        value: (Example, Totals or None where no sample could be read, scalar) -> W numbers, as a
            named tuple where there are several; scalar: the totals are a scalar model's, for which
            some benchmarks have a rule of their own.
        cells: a Table -> percentages by name, in the order in which they are shown; nan where a
            subset has no rows, and then in what is made of it.
        count: how many of the rows that `full` counts are in a Table, by subset. Not always one
            each: a question with five pairs is one row, and a vote that was a tie is counted with
            the next one.
        leaves_out: (Example, scalar) -> a sentence on why the official script for this kind of
            judge leaves the row out, or nothing. Such a row is not judged, and is not missing.
        sections: the subsets behind a cell, where its name does not say so.
        secret: its authors ask that no text of it be published: ids and numbers of its rows may be
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
        """The subset that a row counts in."""
        return str(example.meta.get("subset", self.name))

    def unit(self, example: Example) -> str:
        """The unit that a row is drawn with."""
        return str(example.meta.get("unit", example.id))

    def label(self, rows: Mapping[str, int], unanswered: int = 0) -> str:
        """The title, with "(partial: ...)" where these are not all its rows, by subset, and
        "(incomplete: ...)" where some had no answer."""
        notes = []
        if unanswered:
            notes.append(f"incomplete: {rows_had(unanswered)} no answer")
        if dict(rows) != dict(self.full):
            notes.append(f"partial: {sum(rows.values())} of {sum(self.full.values())} rows")
        return f"{self.title} ({'; '.join(notes)})" if notes else self.title

    def lacking(self, cell: str, unanswered: Mapping[str, int]) -> int:
        """How many of the rows behind a cell had no answer, given how many each subset has."""
        # "MMLU-Pro, k = 8" and "Ties: margin" belong to the subsets that they begin with.
        named = [s for s in self.full if cell == s or cell.startswith((f"{s}, ", f"{s}: "))]
        behind = self.sections.get(cell) or named or unanswered
        return sum(unanswered.get(subset, 0) for subset in behind)

    def missing(self, rows: Mapping[str, int]) -> list[str]:
        """What makes it partial: "donotanswer: 0 of 136" for each subset that is not complete."""
        return [
            f"{subset}: {rows.get(subset, 0)} of {count}"
            for subset, count in self.full.items()
            if rows.get(subset, 0) != count
        ]


def rows_had(count: int) -> str:
    """How many rows had something: 1 row had, 2 rows had."""
    return f"{count:,} row{'' if count == 1 else 's'} had"


def extreme_totals(example: Example) -> tuple[Totals, Totals]:
    """The totals of a perfect judge, and those of one that is wrong wherever it can be."""
    if example.n == 1:
        # Above or below every other response, whatever their scale.
        best = (math.inf if example.label else -math.inf,)
    elif example.scores is not None:
        best = example.scores
    else:
        best = tuple(float(i == example.label) for i in range(example.n))
    return best, tuple(-total for total in best)


def credit(totals: Totals | None, label: int) -> float:
    """1/m if the labelled response is one of the m with the highest total, else 0: the expected
    value of breaking ties at random. 0 without a readable sample."""
    if totals is None:
        return 0.0
    top = max(totals)
    return float(totals[label] == top) / sum(total == top for total in totals)
