"""RM-Bench (Liu et al., arXiv 2410.16184): three right and three wrong answers in three styles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table, Totals
from grm_jax.evals.benchmarks.averages import column_means, mean_of
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, open_rows
from grm_jax.text.messages import Example

HUB = "THU-KEG/RM-Bench"
# The domains, and the subsets whose rows are theirs.
DOMAINS = {
    "chat": ("chat",),
    "math": ("math",),
    "code": ("code",),
    "safety": ("safety-refuse", "safety-response"),
}
SUBSETS = tuple(subset for subsets in DOMAINS.values() for subset in subsets)
LEVELS = ("easy", "normal", "hard")
STYLES = 3  # concise, detailed, detailed in Markdown: in this order on both sides


def _read(path: str | None) -> Rows:
    # The repository has all rows in this file, and again by domain in others.
    whole = None if path is None else next(Path(path).rglob("total_dataset.json"), None)
    columns = ("prompt", "chosen", "rejected", "domain")
    source = open_rows(str(whole) if whole else path, HUB, columns)
    return into_subsets(source, lambda example: example.meta.get("domain"), SUBSETS, _why_not)


def _why_not(example: Example) -> str:
    right = (1.0,) * STYLES + (0.0,) * STYLES
    if example.scores != right:
        return f"it has {example.n} responses: chosen and rejected need {STYLES} each"
    return ""


def _value(example: Example, totals: Totals | None, scalar: bool) -> tuple[float, ...]:
    """The share of right above wrong (strictly, officially) where the right answer has the richer
    style (easy), the same (normal) and the plainer one (hard)."""
    if totals is None:
        return 0.0, 0.0, 0.0
    pairs = [(i, j) for i in range(STYLES) for j in range(STYLES)]
    above = {(i, j): float(totals[i] > totals[STYLES + j]) for i, j in pairs}
    easy = [above[i, j] for i, j in pairs if i > j]
    normal = [above[i, j] for i, j in pairs if i == j]
    hard = [above[i, j] for i, j in pairs if i < j]
    return tuple(sum(level) / len(level) for level in (easy, normal, hard))


def _cells(table: Table) -> dict[str, float]:
    """A domain is the mean of its levels, each over all rows of the domain: safety's two halves are
    pooled, officially. A level is the mean of the domains, and so is the whole."""
    domain = np.where(np.isin(table.subset, DOMAINS["safety"]), "safety", table.subset)
    by_domain = Table(domain, table.unit, table.values)
    levels = dict(zip(LEVELS, column_means(by_domain, tuple(DOMAINS), range(3)), strict=True))
    domains = {name: sum(levels[level][name] for level in LEVELS) / 3 for name in DOMAINS}
    by_level = {level: mean_of(levels[level], DOMAINS) for level in LEVELS}
    return {"RM-Bench": mean_of(domains, DOMAINS)} | domains | by_level


RM_BENCH = Benchmark(
    name="rm-bench",
    title="RM-Bench",
    hub=HUB,
    # In all: the counts of the domains are in no place that could be checked.
    full={"all domains": 1327},
    headline="RM-Bench",
    read=_read,
    value=_value,
    cells=_cells,
    sections=DOMAINS,
    found=lambda table: {"all domains": len(table.subset)},
)
