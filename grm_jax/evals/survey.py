"""What a file of samples holds besides scores: refusals, reasons, lengths, the meta RM's work."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.ranking import Ranking, rank
from grm_jax.evals.run import REFUSED
from grm_jax.fingerprint import RowsHash
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples

LISTED = 100  # refused and unread rows that are named; the others are counted


@dataclass
class Survey:
    """Counts over a file of samples.

    Attributes:
        k: judgments of each row.
        subsets: rows by subset, those that the judge refused among them.
        judged: rows that the judge did not refuse.
        invalid: judgments without scores by reason; "refused" are all of a refused row.
        tokens: generated in all.
        refused, unread: the first LISTED rows that the judge would not judge, and that could not
            be read, as {"id", "error"}; `refused_rows` and `unread_rows` count all.
        rated: whether any judgment has a meta score.
        data: a hash of the rows: what was judged of each, and its label.
        meta: how well meta scores tell right judgments from wrong ones (equation 10), on rows of
            two or more responses with a label; None where none is rated.
    """

    k: int = 0
    subsets: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    unread: list[dict[str, str]] = field(default_factory=list)
    refused_rows: int = 0
    unread_rows: int = 0
    rated: bool = False
    data: str = ""
    meta: Ranking | None = None

    @property
    def rows(self) -> int:
        """All rows that count."""
        return sum(self.subsets.values())

    def to_json(self) -> dict[str, Any]:
        """Counts, shares and means; no list."""
        samples = self.rows * self.k
        return {
            "judgments": samples,
            "invalid": dict(sorted(self.invalid.items(), key=lambda x: (-x[1], x[0]))),
            "invalid_share": sum(self.invalid.values()) / max(samples, 1),
            "tokens": self.tokens,
            "mean_tokens": self.tokens / max(self.judged * self.k, 1),
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
            found.unread_rows += 1
            if len(found.unread) < LISTED:
                found.unread.append(row.to_json())
            continue
        data.add(row.digest, row.example.label)
        found.k = len(row.judgments)
        found.subsets[benchmark.subset(row.example)] += 1
        found.invalid.update(j.reason for j in row.judgments if j.reason is not None)
        found.tokens += sum(j.tokens for j in row.judgments)
        if all(j.reason == REFUSED for j in row.judgments):
            found.refused_rows += 1
            if len(found.refused) < LISTED:
                error = row.judgments[0].text if row.judgments else ""
                found.refused.append({"id": row.example.id, "error": error})
            continue
        found.judged += 1
        if pairs := _rated(row):
            rated.append(pairs)
        found.rated |= any(j.meta is not None for j in row.judgments)
    found.meta = rank(rated) if rated else None
    found.data = data.hexdigest()
    return found


def _rated(row: Sampled) -> list[tuple[float, bool]]:
    """(meta score, whether right) of a row's rated judgments, where that is known."""
    label = row.example.label
    if label is None or row.example.n < 2:
        return []
    return [(j.meta, is_correct(j.scores, label)) for j in row.judgments if j.meta is not None]
