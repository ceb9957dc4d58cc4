"""JudgeBench (Tan et al., arXiv 2410.12784): pairs of one model's answers, one of them right."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmark import Benchmark, Table, Totals
from grm_jax.evals.benchmarks.averages import means, weighted_mean
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, not_a_pair, open_rows
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example

HUB = "ScalerLab/JudgeBench"
# The pairs of the split "gpt", which the leaderboard shows; the split "claude" is not read.
CATEGORIES = {"Knowledge": 154, "Reasoning": 98, "Math": 56, "Coding": 42}
SOURCES = {
    "mmlu-pro": "Knowledge",
    "livebench-reasoning": "Reasoning",
    "livebench-math": "Math",
    "livecodebench": "Coding",
}
COLUMNS = ("question", "source", "response_model", "response_A", "response_B", "label")


def _read(path: str | None) -> Rows:
    local = path is not None and Path(path).exists()
    source = open_rows(path, HUB, COLUMNS, None if local else "gpt")
    return into_subsets(_of_gpt(source), _category, CATEGORIES, not_a_pair)


def _of_gpt(items: Iterable[Example | BadRow]) -> Rows:
    """The rows without those of the split "claude", which may be in the same folder."""
    for item in items:
        if isinstance(item, BadRow) or not str(item.meta["response_model"]).startswith("claude"):
            yield item


def _category(example: Example) -> str:
    source = str(example.meta["source"])
    return next((name for prefix, name in SOURCES.items() if source.startswith(prefix)), source)


def _value(example: Example, totals: Totals | None, scalar: bool) -> tuple[float, ...]:
    """Officially, a tie is wrong, and so is an answer that cannot be read."""
    assert example.label is not None  # checked by the reader
    return (float(is_correct(totals, example.label)),)


def _cells(table: Table) -> dict[str, float]:
    categories = means(table, tuple(CATEGORIES))
    return {"JudgeBench": weighted_mean(categories, CATEGORIES)} | categories


JUDGE_BENCH = Benchmark(
    name="judgebench",
    title="JudgeBench (GPT-4o's pairs)",
    hub=HUB,
    full=CATEGORIES,
    headline="JudgeBench",
    read=_read,
    value=_value,
    cells=_cells,
)
