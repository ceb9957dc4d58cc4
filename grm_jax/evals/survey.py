"""What samples hold besides scores: rows without an answer, reasons, lengths, ratings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.ranking import Ranking, rank
from grm_jax.evals.scoring import had_no_answer
from grm_jax.fingerprint import RowsHash
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples

Row = dict[str, str]

LISTED = 100  # unanswered and unread rows that are named; the others are counted


@dataclass
class Survey:
    """Counts over a file of samples.

    Attributes:
        k: judgments of each row.
        subsets: rows that were judged, by subset.
        invalid: judgments without scores by reason.
        tokens: generated in all.
        unanswered, unread: the first LISTED rows that the judge refused, and that could not be
            read, as {"id", "error"}; `unanswered_rows`, by subset, and `unread_rows` count all.
        left_out: rows that the official script leaves out, by subset; and why the first of them is.
        rated: whether any judgment has a meta score.
        data: a hash of the rows: what was judged of each, and its label.
        meta: how well meta scores tell right judgments from wrong ones (equation 10), on rows of
            two or more responses with a label; None where none is rated.
    """

    k: int = 0
    subsets: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    unanswered: list[Row] = field(default_factory=list)
    unanswered_rows: Counter[str] = field(default_factory=Counter)
    unread: list[Row] = field(default_factory=list)
    unread_rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    why_left_out: str = ""
    rated: bool = False
    data: str = ""
    meta: Ranking | None = None

    @property
    def rows(self) -> int:
        """All rows that were judged."""
        return self.subsets.total()

    def to_json(self) -> dict[str, Any]:
        """Counts, shares and means; no list."""
        samples = self.rows * self.k
        return {
            "judgments": samples,
            "invalid": dict(sorted(self.invalid.items(), key=lambda x: (-x[1], x[0]))),
            "invalid_share": sum(self.invalid.values()) / max(samples, 1),
            "tokens": self.tokens,
            "mean_tokens": self.tokens / max(samples, 1),
        }


def survey(benchmark: Benchmark, samples: Path) -> Survey:
    """One pass over the file; memory holds two numbers per rated judgment.

    Raises:
        FileNotFoundError, ValueError: as `read_samples`.
    """
    found = Survey()
    rated: list[list[tuple[float, bool]]] = []
    data = RowsHash()
    for row in read_samples(samples):
        if isinstance(row, Refusal):
            _without_judgments(found, row)
            if row.row is not None:
                data.add(str(row.row.get("digest")), row.row.get("label"))
            continue
        data.add(row.digest, row.example.label)
        found.k = len(row.judgments)
        found.subsets[benchmark.subset(row.example)] += 1
        found.invalid.update(j.reason for j in row.judgments if j.reason is not None)
        found.tokens += sum(j.tokens for j in row.judgments)
        if pairs := _rated(row):
            rated.append(pairs)
        found.rated |= any(j.meta is not None for j in row.judgments)
    found.meta = rank(rated) if rated else None
    found.data = data.hexdigest()
    return found


def _without_judgments(found: Survey, row: Refusal) -> None:
    told = {"id": row.id, "error": row.error}
    if had_no_answer(row):
        assert row.row is not None
        found.unanswered_rows[str(row.row["subset"])] += 1
        found.unanswered += [told] * (len(found.unanswered) < LISTED)
    elif row.row is not None:
        found.left_out[str(row.row["subset"])] += 1
        found.why_left_out = found.why_left_out or row.error
    else:
        found.unread_rows += 1
        found.unread += [told] * (len(found.unread) < LISTED)


def _rated(row: Sampled) -> list[tuple[float, bool]]:
    """(meta score, whether right) of a row's rated judgments, where that is known."""
    label = row.example.label
    if label is None or row.example.n < 2:
        return []
    return [(j.meta, is_correct(j.scores, label)) for j in row.judgments if j.meta is not None]
