"""Benchmarks from your own rows: the small world's held-out items, and any file of labelled rows.

Accuracy if one of several responses is labelled best (a tie of the m highest counts 1/m), ROC-AUC
if single responses are labelled right or wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from grm_jax.data.sources import BadRow, load_examples
from grm_jax.data.synthetic import ASKS, World
from grm_jax.evals.benchmark import Benchmark, Table, Totals, credit
from grm_jax.evals.benchmarks.averages import means
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, put
from grm_jax.evals.ranking import auc
from grm_jax.processes import say
from grm_jax.text.messages import Example

NO_ASK = "no ask"


class Value(NamedTuple):
    """The credit for several responses; for a single one its score, and 1 if it is right, else 0.
    The others are nan."""

    credit: Any = math.nan
    score: Any = math.nan
    right: Any = math.nan


def _value(example: Example, totals: Totals | None, scalar: bool) -> Value:
    assert example.label is not None  # checked by the readers
    if example.n > 1:
        return Value(credit=credit(totals, example.label))
    score = math.nan if totals is None else totals[0]
    return Value(score=score, right=float(example.label))


def _cells(table: Table, subsets: tuple[str, ...]) -> dict[str, float]:
    values = Value(*table.values.T)
    several = ~np.isnan(values.credit)
    cells: dict[str, float] = {}
    if several.any():
        cells["accuracy"] = float(100 * values.credit[several].mean())
        if len(subsets) > 1:
            rows = Table(table.subset[several], table.unit[several], table.values[several])
            cells |= means(rows, subsets)
    if not several.all():
        cells["ROC-AUC"] = auc(values.score[~several], values.right[~several], 100)
    return cells


def _world(name: str, title: str, counts: Sequence[int], single: bool = False) -> Benchmark:
    """The first held-out items of the world, as many as the counts of all asks add up to."""
    full = {ask or NO_ASK: count for ask, count in zip(ASKS, counts, strict=True)}

    @cache  # kept, because they take long to make, and greedy judgments read them again
    def items() -> tuple[Example, ...]:
        world = World(split="heldout")
        examples = (
            put(replace(example, id=f"world-{index}"), subset=_ask(example))
            for index in range(len(world))
            if ((example := world.item(index).example).n == 1) == single
        )
        return tuple(islice(examples, sum(full.values())))

    def read(path: str | None) -> Rows:
        if path is not None:
            raise ValueError(f"{name} is made, not read: leave --data {path} out")
        return iter(items())

    return Benchmark(
        name=name,
        title=title,
        hub="made by grm_jax.data.synthetic",
        full=full,
        headline="ROC-AUC" if single else "accuracy",
        read=read,
        value=_value,
        cells=lambda table: _cells(table, () if single else tuple(full)),
    )


WORLD = _world("world", "The small world", (328, 360, 328, 316, 338, 330))
WORLD_SINGLE = _world(
    "world-single", "The small world, single responses", (31, 26, 37, 31, 37, 38), single=True
)


def _ask(example: Example) -> str:
    return str(example.meta["ask"]) or NO_ASK


def rows(path: str) -> Benchmark:
    """A Benchmark of all rows in a file, folder or hub data set, with subsets if there is a column
    `subset`. The rows are counted here, and read again to be judged.

    Raises:
        FileNotFoundError, ValueError: as `load_examples`, or no row is labelled.
    """
    source = load_examples(path)
    say(source.mapping)
    full: Counter[str] = Counter()
    several = False
    for item in source:
        if not isinstance(item, BadRow) and item.label is not None:
            full[_subset(item)] += 1
            several |= item.n > 1
    if not full:
        raise ValueError(f"{path} has no row with a label: there is nothing to measure")

    def read(_: str | None) -> Rows:
        return into_subsets(
            source, _subset, full, lambda row: "it has no label" if row.label is None else ""
        )

    return Benchmark(
        name="rows",
        title=path,
        hub=path,
        full=full,
        headline="accuracy" if several else "ROC-AUC",
        read=read,
        value=_value,
        cells=lambda table: _cells(table, tuple(full)),
    )


def _subset(example: Example) -> str:
    return str(example.meta.get("subset", "rows"))
