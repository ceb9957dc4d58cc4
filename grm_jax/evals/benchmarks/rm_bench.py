"""RM-Bench (Liu et al., arXiv 2410.16184): three right and three wrong answers in three styles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table, Totals
from grm_jax.evals.benchmarks.averages import column_means, mean_of
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, open_rows
from grm_jax.text.messages import Example

HUB = "THU-KEG/RM-Bench"
# The domains and their subsets.
DOMAINS = {
    "chat": ("chat",),
    "math": ("math",),
    "code": ("code",),
    "safety": ("safety-refuse", "safety-response"),
}
SUBSETS = tuple(subset for subsets in DOMAINS.values() for subset in subsets)
STYLES = 3  # concise, detailed, detailed in Markdown, in this order on both sides


def _read(path: str | None) -> Rows:
    # This file of the repository has all rows; others repeat them by domain.
    total = None if path is None else next(Path(path).rglob("total_dataset.json"), None)
    columns = ("prompt", "chosen", "rejected", "domain")
    source = open_rows(str(total) if total else path, HUB, columns)
    return into_subsets(source, lambda example: example.meta.get("domain"), SUBSETS, _why_not)


def _why_not(example: Example) -> str:
    right = (1.0,) * STYLES + (0.0,) * STYLES
    if example.scores != right:
        return f"it has {example.n} responses: chosen and rejected need {STYLES} each"
    return ""


class Levels(NamedTuple):
    """The share of right answers above wrong ones (officially, strictly above) if the right one has
    the richer style (easy), the same (normal) or the plainer one (hard)."""

    easy: Any
    normal: Any
    hard: Any


def _value(example: Example, totals: Totals | None, scalar: bool) -> Levels:
    if totals is None:
        return Levels(0.0, 0.0, 0.0)
    pairs = [(i, j) for i in range(STYLES) for j in range(STYLES)]
    above = {(i, j): float(totals[i] > totals[STYLES + j]) for i, j in pairs}
    easy = [above[i, j] for i, j in pairs if i > j]
    normal = [above[i, j] for i, j in pairs if i == j]
    hard = [above[i, j] for i, j in pairs if i < j]
    return Levels(*(sum(level) / len(level) for level in (easy, normal, hard)))


def _cells(table: Table) -> dict[str, float]:
    """A domain is the mean of its levels, each over all rows of the domain: officially, the two
    halves of safety are pooled. A level is the mean of the domains, and so is the total."""
    domain = np.where(np.isin(table.subset, DOMAINS["safety"]), "safety", table.subset)
    by_domain = Table(domain, table.unit, table.values)
    levels = Levels(*column_means(by_domain, tuple(DOMAINS), range(3)))
    domains = {name: sum(level[name] for level in levels) / 3 for name in DOMAINS}
    by_level = {name: mean_of(level, DOMAINS) for name, level in levels._asdict().items()}
    return {"RM-Bench": mean_of(domains, DOMAINS)} | domains | by_level


RM_BENCH = Benchmark(
    name="rm-bench",
    title="RM-Bench",
    hub=HUB,
    # In all: no source that we could check gives the counts of the domains.
    full={"all domains": 1327},
    headline="RM-Bench",
    read=_read,
    value=_value,
    cells=_cells,
    sections=DOMAINS,
    count=lambda table: {"all domains": len(table.subset)},
)
