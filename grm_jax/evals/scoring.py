"""From samples to Tables of values, for every vote, in one pass."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table, Totals, extreme_totals, rows_had
from grm_jax.evals.survey import Survey
from grm_jax.evals.votes import Vote, choices, totals
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.samples import read_samples


class Unanswered(Exception):
    """No row has a judgment; the message quotes the judge's reason."""


@dataclass
class Scorer:
    """Scores the rows of an evaluation as they come, each once.

    Takes C x W numbers of memory per row and vote. An Example none of whose judgments can be read
    counts with totals None. A Refusal is in no table, whether the row had no answer, could not be
    read, or is left out by the official script.

    Attributes:
        benchmark: whose rules turn totals into values.
        samples: where the rows come from, for errors.
        votes: how to vote, given the number of samples of each row.
        scalar: the judge is a scalar model, for which some benchmarks have a rule of their own.
        groups: (pool, k) -> the groups [C, k] of a pool of samples over which a vote is averaged.
        survey: statistics of the rows.
    """

    benchmark: Benchmark
    samples: object
    votes: Callable[[int], Sequence[Vote]]
    scalar: bool = False
    groups: Callable[[int, int], np.ndarray] = choices
    survey: Survey = field(default_factory=Survey)
    _drawn: dict[Vote, np.ndarray] = field(default_factory=dict)
    _values: dict[Vote, array[float]] = field(default_factory=dict)
    _extremes: array[float] = field(default_factory=lambda: array("d"))
    _names: list[tuple[str, str, int]] = field(default_factory=list)  # subset, unit, line
    _lines: int = 0

    def add(self, row: Sampled | Refusal) -> dict[Vote, list[Totals | None]]:
        """Scores a row.

        Returns:
            For each vote the totals of its groups of samples; empty for a Refusal.

        Raises:
            ValueError: rows with different numbers of samples, or fewer than a vote needs.
        """
        pool, line = self.survey.k, self._lines
        self._lines += 1
        self.survey.add(self.benchmark, row)
        if isinstance(row, Refusal):
            return {}
        example, count = row.example, len(row.judgments)
        if not self._names:
            pool = count
            self._drawn = {vote: self.groups(pool, vote.k) for vote in self.votes(pool)}
            self._values = {vote: array("d") for vote in self._drawn}
        if count != pool:
            raise ValueError(
                f"{self.samples}: {example.id} has {count} judgments, and the rows before it "
                f"{pool}: an evaluation takes as many samples of every row."
            )
        self._names.append((self.benchmark.subset(example), self.benchmark.unit(example), line))
        for extreme in extreme_totals(example):
            self._extremes.extend(self.benchmark.value(example, extreme, self.scalar))
        summed = {vote: totals(row, vote, groups) for vote, groups in self._drawn.items()}
        for vote, values in self._values.items():
            for scores in summed[vote]:
                values.extend(self.benchmark.value(example, scores, self.scalar))
        return summed

    def tables(self) -> dict[Vote, list[Table]]:
        """For each vote a Table per group of its k samples; no guided votes if no judgment has a
        meta score.

        Raises:
            ValueError: there are no rows.
            Unanswered: none of the rows has an answer.
        """
        count, unanswered = len(self._names), self.survey.unanswered
        if not count and unanswered:
            had = rows_had(self.survey.unanswered_rows.total())
            raise Unanswered(
                f"{self.samples}: none of {had} an answer. The first: {unanswered[0]['error']}"
            )
        if not count:
            raise ValueError(
                f"{self.samples} has no row that was judged: there is nothing to score."
            )
        subsets, units, lines = map(np.array, zip(*self._names, strict=True))
        best, worst = np.array(self._extremes).reshape(count, 2, -1).transpose(1, 0, 2)
        return {
            vote: [
                Table(subsets, units, np.ascontiguousarray(v), extremes=(best, worst), line=lines)
                for v in np.array(values).reshape(count, len(self._drawn[vote]), -1).swapaxes(0, 1)
            ]
            for vote, values in self._values.items()
            if self.survey.rated or not vote.guided
        }

    def tables_of(self, vote: Vote) -> list[Table]:
        """The Tables of one vote.

        Raises:
            ValueError, Unanswered: as in `tables`; or a guided vote has no meta scores.
        """
        tables = self.tables()
        if vote not in tables:
            raise ValueError(
                f"{self.samples} has no meta scores, which a guided vote needs: give a --meta-rm."
            )
        return tables[vote]


def score(
    benchmark: Benchmark, samples: Path, votes: Sequence[Vote], *, scalar: bool = False
) -> Scorer:
    """A Scorer that has read a file of samples.

    Raises:
        FileNotFoundError, ValueError: as `read_samples` and `Scorer.add`.
    """
    scorer = Scorer(benchmark, samples, lambda pool: votes, scalar)
    for row in read_samples(samples):
        scorer.add(row)
    return scorer


def cells(benchmark: Benchmark, choices: Sequence[Table]) -> dict[str, float]:
    """The benchmark's cells in percent, averaged over the choices of samples."""
    results = [benchmark.cells(table) for table in choices]
    return {name: float(np.mean([cell[name] for cell in results])) for name in results[0]}
