"""RMB (Zhou et al., arXiv 2410.09893): best of n and pairs, of helpfulness and harmlessness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from grm_jax.evals.benchmark import Benchmark, Table, Totals, credit
from grm_jax.evals.benchmarks.averages import column_means, mean_of
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, no_single_best, open_rows
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example

# The uids of the pairs run from 0 to 17130 without gaps, helpfulness first.
PARTS = {
    "Helpfulness, best of n": 2109,
    "Helpfulness, pairs": 10067,
    "Harmlessness, best of n": 1677,
    "Harmlessness, pairs": 7064,
}
KINDS = {"BoN_set": "best of n", "Pairwise_set": "pairs"}


def _read(path: str | None) -> Rows:
    if path is None:
        raise ValueError(
            "RMB is not on the hub: clone github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark and give "
            "its folder RMB_dataset as --data"
        )
    source = open_rows(path, "RMB_dataset", ("conversation_input", "category_path"))
    return into_subsets(source, _part, PARTS, no_single_best)


def _part(example: Example) -> str:
    """The part that a path such as Pairwise_set/Helpfulness/Chat/Discussion belongs to."""
    path = str(example.meta.get("category_path"))
    kind, _, rest = path.partition("/")
    return f"{rest.split('/')[0]}, {KINDS[kind]}" if kind in KINDS else path


class Value(NamedTuple):
    """The value of a verdict by the paper's rule, the highest of all n with ties broken at random,
    and by RMB's, in which the best must beat each loser."""

    credit: Any
    beats_each: Any


def _value(example: Example, totals: Totals | None, scalar: bool) -> Value:
    assert example.label is not None  # checked by the reader
    return Value(credit(totals, example.label), float(is_correct(totals, example.label)))


def total(parts: Mapping[str, float]) -> float:
    """RMB: the mean of its four parts."""
    return mean_of(parts, PARTS)


def _cells(table: Table) -> dict[str, float]:
    parts, strict = Value(*column_means(table, tuple(PARTS), (0, 1)))
    return (
        {"RMB": total(parts)}
        | parts
        | {"RMB, beats each loser": total(strict)}
        | {f"{name}, beats each loser": cell for name, cell in strict.items()}
    )


RMB = Benchmark(
    name="rmb",
    title="RMB",
    hub="the folder RMB_dataset of github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark",
    full=PARTS,
    headline="RMB",
    read=_read,
    value=_value,
    cells=_cells,
)
