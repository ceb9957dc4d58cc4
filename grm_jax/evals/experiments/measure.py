"""A file of samples, measured: the benchmark's cells for each vote, and the cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grm_jax.evals.benchmark import Benchmark, Table
from grm_jax.evals.bootstrap import differences, intervals
from grm_jax.evals.intervals import Interval
from grm_jax.evals.scoring import score
from grm_jax.evals.survey import Survey
from grm_jax.evals.votes import Vote
from grm_jax.text.json_line import plain


@dataclass(frozen=True)
class Measured:
    """A judge on a benchmark.

    Attributes:
        label: its name in tables and figures.
        benchmark: what was measured; `tables` are its rows for each vote.
        cells: for each vote, by cell: percent with a 95 % interval.
        survey: statistics of the samples.
    """

    label: str
    benchmark: Benchmark
    tables: Mapping[Vote, list[Table]]
    cells: Mapping[Vote, Mapping[str, Interval]]
    survey: Survey

    @property
    def title(self) -> str:
        """The benchmark's title, with "(incomplete: ..)" or "(partial: ..)" if it is."""
        table = next(iter(self.tables.values()))[0]
        rows = Counter(self.benchmark.count(table)) + self.survey.left_out
        return self.benchmark.label(rows, self.survey.unanswered_rows.total())

    def value(self, vote: Vote, cell: str | None = None) -> Interval:
        """A cell; by default the benchmark's headline."""
        return self.cells[vote][cell or self.benchmark.headline]

    def gain(self, vote: Vote, other: Measured, other_vote: Vote | None = None) -> Interval:
        """This headline minus the other's, paired by row."""
        before, after = other.tables[other_vote or vote], self.tables[vote]
        return differences(self.benchmark, before, after)[self.benchmark.headline]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: label, tokens, and the cells of each vote; null for what has no value."""
        return {
            "label": self.label,
            "unanswered_rows": self.survey.unanswered_rows.total(),
            "tokens_per_sample": self.survey.mean_tokens,
            "votes": [
                {
                    **asdict(vote),
                    "cells": {name: as_json(value) for name, value in cells.items()},
                }
                for vote, cells in self.cells.items()
            ],
        }


def measure(
    label: str,
    benchmark: Benchmark,
    samples: Path,
    votes: Sequence[Vote],
    *,
    scalar: bool = False,
) -> Measured:
    """Measures a file of samples. Without meta scores, guided votes are left out.

    Raises:
        FileNotFoundError, ValueError, Unanswered: as `score` and `Scorer.tables`.
    """
    scorer = score(benchmark, samples, votes, scalar=scalar)
    tables = scorer.tables()
    cells = {vote: intervals(benchmark, choices) for vote, choices in tables.items()}
    return Measured(label, benchmark, tables, cells, scorer.survey)


def as_json(value: Interval) -> dict[str, float | None]:
    """An interval for JSON, which cannot hold nan."""
    return plain(asdict(value))
