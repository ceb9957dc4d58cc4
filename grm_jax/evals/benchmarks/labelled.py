"""Benchmarks of one's own: the small world's held-out items, and any file of labelled rows.

Accuracy where a response is labelled best of several (a tie of m highest counts 1/m), ROC-AUC where
single responses are labelled right or wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np

from grm_jax.data.sources import BadRow, load_examples
from grm_jax.data.synthetic import ASKS, World
from grm_jax.evals.benchmark import Benchmark, Table, Totals, credit
from grm_jax.evals.benchmarks.averages import means, roc_auc
from grm_jax.evals.benchmarks.reading import Rows, into_subsets, put
from grm_jax.processes import say
from grm_jax.text.messages import Example

NO_ASK = "no ask"


def _value(example: Example, totals: Totals | None, scalar: bool) -> tuple[float, ...]:
    """(credit, nan, nan) of several responses; (nan, score, label) of a single one."""
    assert example.label is not None  # seen to by the readers
    if example.n > 1:
        return credit(totals, example.label), math.nan, math.nan
    return math.nan, (math.nan if totals is None else totals[0]), float(example.label)


def _cells(table: Table, subsets: tuple[str, ...]) -> dict[str, float]:
    several = ~np.isnan(table.values[:, 0])
    cells: dict[str, float] = {}
    if several.any():
        cells["accuracy"] = float(100 * table.values[several, 0].mean())
        if len(subsets) > 1:
            rows = Table(table.subset[several], table.unit[several], table.values[several])
            cells |= means(rows, subsets)
    if not several.all():
        cells["ROC-AUC"] = roc_auc(*table.values[~several, 1:].T)
    return cells


def _world(name: str, title: str, counts: Sequence[int], single: bool = False) -> Benchmark:
    """The first held-out items of the world, as many as the counts (of each ask) say in all."""
    full = {ask or NO_ASK: count for ask, count in zip(ASKS, counts, strict=True)}

    @cache  # they take longer to make than to keep, and are read more than once
    def items() -> tuple[Example, ...]:
        world = World(split="heldout")
        found = (
            put(replace(example, id=f"world-{index}"), subset=_ask(example))
            for index in range(len(world))
            if ((example := world.item(index).example).n == 1) == single
        )
        return tuple(islice(found, sum(full.values())))

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
    """Any file, folder or hub data set of labelled rows as a Benchmark, by its column `subset` if
    it has one. What is there is the whole. It is read once to count, and again to be judged.

    Raises:
        FileNotFoundError, ValueError: as `load_examples`, or there is no labelled row.
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
