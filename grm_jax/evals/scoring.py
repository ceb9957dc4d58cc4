"""From samples to Tables of a benchmark's values, for every vote, in one pass."""

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
    """Not one row has a judgment; says why in the judge's words."""


@dataclass
class _Column:
    """The values of one vote as they come in: C groups of k sample numbers, W numbers for each."""

    vote: Vote
    groups: np.ndarray
    values: array[float] = field(default_factory=lambda: array("d"))


class Scorer:
    """Scores the rows of an evaluation as they come, each once.

    Memory holds C x W numbers per row and vote. An Example none of whose judgments can be read
    counts with totals None. A Refusal is in no table: neither a row that had no answer, nor one
    that could not be read or that the official script leaves out.

    Args:
        benchmark: whose rules turn totals into values.
        samples: where the rows come from, for errors.
        votes: how to vote, given the number of samples of each row.
        scalar: the judge is a scalar model, for which some benchmarks have a rule of their own.
        groups: (pool, k) -> the groups [C, k] of a pool of samples that a vote is averaged over.

    Attributes:
        survey: what else the rows hold.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        samples: object,
        votes: Callable[[int], Sequence[Vote]],
        *,
        scalar: bool = False,
        groups: Callable[[int, int], np.ndarray] = choices,
    ):
        self.survey = Survey()
        self._benchmark, self._samples, self._scalar = benchmark, samples, scalar
        self._votes, self._groups = votes, groups
        self._columns: list[_Column] = []
        self._subset: list[str] = []
        self._unit: list[str] = []
        self._line: list[int] = []
        self._extremes = array("d")
        self._lines = 0

    def add(self, row: Sampled | Refusal) -> dict[Vote, list[Totals | None]]:
        """Scores a row.

        Returns:
            For each vote the totals of its groups of samples; nothing of a Refusal.

        Raises:
            ValueError: rows with different numbers of samples, or fewer than a vote needs.
        """
        self._lines += 1
        pool = self.survey.k
        self.survey.add(self._benchmark, row)
        if isinstance(row, Refusal):
            return {}
        benchmark, example = self._benchmark, row.example
        if not self._subset:
            pool = len(row.judgments)
            votes = dict.fromkeys(self._votes(pool))
            self._columns = [_Column(vote, self._groups(pool, vote.k)) for vote in votes]
        if len(row.judgments) != pool:
            raise ValueError(
                f"{self._samples}: {example.id} has {len(row.judgments)} judgments, and the rows "
                f"before it {pool}: an evaluation samples every row alike."
            )
        self._subset.append(benchmark.subset(example))
        self._unit.append(benchmark.unit(example))
        self._line.append(self._lines - 1)
        for extreme in extreme_totals(example):
            self._extremes.extend(benchmark.value(example, extreme, self._scalar))
        summed = {c.vote: totals(row, c.vote, c.groups) for c in self._columns}
        for column in self._columns:
            for scores in summed[column.vote]:
                column.values.extend(benchmark.value(example, scores, self._scalar))
        return summed

    def tables(self) -> dict[Vote, list[Table]]:
        """For each vote a Table per group of its k samples; without guided votes where no judgment
        has a meta score.

        Raises:
            ValueError: there is no row at all.
            Unanswered: there are rows, and none has an answer.
        """
        count, unanswered = len(self._subset), self.survey.unanswered
        if not count and unanswered:
            had = rows_had(self.survey.unanswered_rows.total())
            raise Unanswered(
                f"{self._samples}: none of {had} an answer. The first: {unanswered[0]['error']}"
            )
        if not count:
            raise ValueError(
                f"{self._samples} has no row that was judged: there is nothing to score."
            )
        subsets, units, lines = map(np.array, (self._subset, self._unit, self._line))
        best, worst = np.array(self._extremes).reshape(count, 2, -1).transpose(1, 0, 2)
        return {
            column.vote: [
                Table(
                    subsets,
                    units,
                    np.ascontiguousarray(values),
                    extremes=(best, worst),
                    line=lines,
                )
                for values in np.array(column.values)
                .reshape(count, len(column.groups), -1)
                .transpose(1, 0, 2)
            ]
            for column in self._columns
            if self.survey.rated or not column.vote.guided
        }


def score(
    benchmark: Benchmark, samples: Path, votes: Sequence[Vote], *, scalar: bool = False
) -> Scorer:
    """A Scorer that has read a file of samples.

    Raises:
        FileNotFoundError, ValueError: as `read_samples` and `Scorer.add`.
    """
    scorer = Scorer(benchmark, samples, lambda pool: votes, scalar=scalar)
    for row in read_samples(samples):
        scorer.add(row)
    return scorer


def tables(
    benchmark: Benchmark, samples: Path, votes: Sequence[Vote], *, scalar: bool = False
) -> dict[Vote, list[Table]]:
    """The Tables of a file of samples, for just these votes.

    Raises:
        FileNotFoundError, ValueError, Unanswered: as `score` and `Scorer.tables`; no meta score for
            a guided vote.
    """
    results = score(benchmark, samples, votes, scalar=scalar).tables()
    if set(votes) - set(results):
        raise ValueError(
            f"{samples} has no meta scores, which a guided vote needs: give a --meta-rm."
        )
    return results


def cells(benchmark: Benchmark, choices: Sequence[Table]) -> dict[str, float]:
    """The benchmark's cells, in percent: the mean over the choices of samples."""
    results = [benchmark.cells(table) for table in choices]
    return {name: float(np.mean([cell[name] for cell in results])) for name in results[0]}
