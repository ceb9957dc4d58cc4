"""Statistics of samples besides scores: rows without an answer, reasons, lengths, ratings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.ranking import Ranking, rank
from grm_jax.fingerprint import RowsHash
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.reward import is_correct

Row = dict[str, str]

LISTED = 100  # unanswered and unread rows that are named; the others are only counted


def had_no_answer(row: Sampled | Refusal) -> bool:
    """Whether this is a row of the benchmark that should have been judged and was not."""
    return isinstance(row, Refusal) and row.row is not None and not row.row.get("left_out")


@dataclass
class Survey:
    """Counts over samples as they come; takes two numbers of memory per rated judgment.

    Attributes:
        k: judgments of each row.
        subsets: rows that were judged, by subset.
        invalid: judgments without scores by reason.
        tokens: generated in all.
        engines: rows by the size of the engine that drew their judgments, as (name, number) pairs;
            () if it is not known.
        unanswered, unread: the first LISTED rows that the judge refused or that could not be read,
            as {"id", "error"}; `unanswered_rows`, by subset, and `unread_rows` count all of them.
        left_out: rows that the official script leaves out, by subset; `why_left_out` is its reason
            for the first of them.
        rated: whether any judgment has a meta score.
        data: a hash of the rows, of the content that is judged and the labels.
    """

    k: int = 0
    subsets: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    engines: Counter[tuple[tuple[str, int], ...]] = field(default_factory=Counter)
    unanswered: list[Row] = field(default_factory=list)
    unanswered_rows: Counter[str] = field(default_factory=Counter)
    unread: list[Row] = field(default_factory=list)
    unread_rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    why_left_out: str = ""
    rated: bool = False
    data: RowsHash = field(default_factory=RowsHash)
    _ratings: list[list[tuple[float, bool]]] = field(default_factory=list)

    def add(self, benchmark: Benchmark, row: Sampled | Refusal) -> None:
        """Counts a row."""
        if isinstance(row, Refusal):
            self._add_refusal(row)
            return
        self.data.add(row.digest, row.example.label)
        self.k = len(row.judgments)
        self.subsets[benchmark.subset(row.example)] += 1
        self.invalid.update(j.reason for j in row.judgments if j.reason is not None)
        self.tokens += sum(j.tokens for j in row.judgments)
        self.engines[tuple(sorted((row.engine or {}).items()))] += 1
        if ratings := _ratings(row):
            self._ratings.append(ratings)
        self.rated |= any(j.meta is not None for j in row.judgments)

    @property
    def rows(self) -> int:
        """All rows that were judged."""
        return self.subsets.total()

    @property
    def judgments(self) -> int:
        """All judgments of those rows."""
        return self.rows * self.k

    @property
    def mean_tokens(self) -> float:
        """The mean length of a judgment."""
        return self.tokens / max(self.judgments, 1)

    @cached_property
    def meta(self) -> Ranking | None:
        """How well meta scores separate right from wrong judgments (equation 10), on labelled rows
        of two or more responses; None if none is rated."""
        return rank(self._ratings) if self._ratings else None

    def to_json(self) -> dict[str, Any]:
        """Counts, shares and means, and the number of rows that each engine drew."""
        return {
            "judgments": self.judgments,
            "invalid": dict(sorted(self.invalid.items(), key=lambda x: (-x[1], x[0]))),
            "invalid_share": sum(self.invalid.values()) / max(self.judgments, 1),
            "tokens": self.tokens,
            "mean_tokens": self.mean_tokens,
            "engines": [
                {"size": dict(size) or None, "rows": rows}
                for size, rows in sorted(self.engines.items())
            ],
        }

    def _add_refusal(self, row: Refusal) -> None:
        if row.row is not None:
            self.data.add(str(row.row.get("digest")), row.row.get("label"))
        named = {"id": row.id, "error": row.error}
        if had_no_answer(row):
            assert row.row is not None
            self.unanswered_rows[str(row.row["subset"])] += 1
            self.unanswered += [named] * (len(self.unanswered) < LISTED)
        elif row.row is not None:
            self.left_out[str(row.row["subset"])] += 1
            self.why_left_out = self.why_left_out or row.error
        else:
            self.unread_rows += 1
            self.unread += [named] * (len(self.unread) < LISTED)


def _ratings(row: Sampled) -> list[tuple[float, bool]]:
    """(meta score, whether right) of a row's rated judgments; empty if the label is not known."""
    label = row.example.label
    if label is None or row.example.n < 2:
        return []
    return [(j.meta, is_correct(j.scores, label)) for j in row.judgments if j.meta is not None]
