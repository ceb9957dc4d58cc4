"""Means over the rows of a Table, fast enough for a bootstrap with a thousand resamplings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from grm_jax.evals.benchmark import Table


def means(table: Table, subsets: Sequence[str], column: int = 0) -> dict[str, float]:
    """The mean of a column of values over the rows of each subset, in percent; nan without rows."""
    return column_means(table, subsets, (column,))[0]


def column_means(
    table: Table, subsets: Sequence[str], columns: Iterable[int]
) -> list[dict[str, float]]:
    """The same for several columns."""
    names = np.array(sorted(subsets))
    place = np.searchsorted(names, table.subset).clip(max=len(names) - 1)
    own = names[place] == table.subset
    place, values = place[own], table.values[own]
    count = np.bincount(place, minlength=len(names))
    result = []
    for column in columns:
        total = np.bincount(place, values[:, column], len(names))
        with np.errstate(invalid="ignore"):
            mean = dict(zip(names.tolist(), (100 * total / count).tolist(), strict=True))
        result.append({name: mean[name] for name in subsets})
    return result


def mean_of(cells: Mapping[str, float], names: Iterable[str]) -> float:
    """The unweighted mean of these cells; nan if one of them is nan."""
    values = [cells[name] for name in names]
    return sum(values) / len(values)


def weighted_mean(cells: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean of the cells that have a weight; nan if one of them is nan."""
    return sum(cells[name] * w for name, w in weights.items()) / sum(weights.values())
