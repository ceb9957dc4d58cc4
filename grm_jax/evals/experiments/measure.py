"""One file of samples, measured: the benchmark's cells for each way to vote, and what it cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grm_jax.evals import scoring
from grm_jax.evals.benchmark import Benchmark, Table
from grm_jax.evals.intervals import Interval
from grm_jax.evals.scoring import Vote
from grm_jax.judging.judgment import Refusal
from grm_jax.judging.samples import read_samples


@dataclass(frozen=True)
class Measured:
    """A judge on a benchmark.

    Attributes:
        label: what it is called in tables and figures.
        benchmark: what was measured; `tables` are its rows for each way to vote.
        cells: per vote, by cell, percent with a 95 % interval.
        tokens: mean number of generated tokens per sample.
        rated: whether there are meta scores.
        unanswered: how many rows had no answer; they are in no number.
        left_out: rows that the official script leaves out, by subset.
    """

    label: str
    benchmark: Benchmark
    tables: Mapping[Vote, list[Table]]
    cells: Mapping[Vote, Mapping[str, Interval]]
    tokens: float
    rated: bool
    unanswered: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The benchmark's title, with "(incomplete: ..)" or "(partial: ..)" where that is so."""
        table = next(iter(self.tables.values()))[0]
        found = Counter(self.benchmark.found(table)) + Counter(self.left_out)
        return self.benchmark.label(found, self.unanswered)

    def value(self, vote: Vote, cell: str | None = None) -> Interval:
        """A cell; by default the benchmark's headline."""
        return self.cells[vote][cell or self.benchmark.headline]

    def gain(self, vote: Vote, other: Measured, other_vote: Vote | None = None) -> Interval:
        """This headline minus the other's, paired over the same rows."""
        before, after = other.tables[other_vote or vote], self.tables[vote]
        found = scoring.differences(self.benchmark, before, after)
        return found[self.benchmark.headline]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: label, tokens, and the cells of each vote; null for what has no value."""
        return {
            "label": self.label,
            "unanswered_rows": self.unanswered,
            "tokens_per_sample": self.tokens,
            "votes": [
                {**asdict(vote), "cells": {name: as_json(value) for name, value in cells.items()}}
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
    """Measures a file of samples. Guided votes are left out where there are no meta scores.

    Raises:
        FileNotFoundError, ValueError, Unanswered: as `scoring.tables`.
    """
    tokens, count, rated, unanswered = 0, 0, False, 0
    left_out: Counter[str] = Counter()
    for row in read_samples(samples):
        if isinstance(row, Refusal):
            unanswered += scoring.had_no_answer(row)
            if row.row is not None and row.row.get("left_out"):
                left_out[str(row.row["subset"])] += 1
        else:
            tokens += sum(judgment.tokens for judgment in row.judgments)
            count += len(row.judgments)
            rated |= any(judgment.meta is not None for judgment in row.judgments)
    asked = [vote for vote in votes if rated or not vote.guided]
    tables = scoring.tables(benchmark, samples, asked, scalar=scalar)
    return Measured(
        label=label,
        benchmark=benchmark,
        tables=tables,
        cells={vote: scoring.intervals(benchmark, found) for vote, found in tables.items()},
        tokens=tokens / max(count, 1),
        rated=rated,
        unanswered=unanswered,
        left_out=left_out,
    )


def as_json(value: Interval) -> dict[str, float | None]:
    """An interval for JSON, which has no nan."""
    return {name: None if math.isnan(x) else x for name, x in asdict(value).items()}


def doublings(k: int) -> list[int]:
    """1, 2, 4 .. up to k, and k itself."""
    return sorted({*(2**i for i in range(k.bit_length()) if 2**i <= k), k})
