"""The bootstrap: a benchmark's cells on resampled rows, and intervals from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table
from grm_jax.evals.intervals import Interval, difference, percentage
from grm_jax.evals.resampling import Redrawn, Units
from grm_jax.evals.scoring import cells
from grm_jax.randomness import bootstrap_stream

REDRAWN = 4  # the choices of samples that the bootstrap resamples


def bootstrap(
    benchmark: Benchmark,
    choices: Sequence[Table],
    *,
    resamples: int = 1000,
    seed: int = 0,
    turned: bool = False,
) -> dict[str, np.ndarray]:
    """The values of each cell, [resamples], on as many resamplings of the rows.

    From each subset as many units are drawn, with replacement, as it has; a unit brings all its
    rows of that subset. Two more units can be drawn, one judged perfectly and one judged as wrongly
    as possible: that all rows agree does not mean that every further row would (Agresti and Coull,
    1998, add two of each to a share). Equal rows and seeds give equal resamplings, whatever the
    values, so two votes or two judges are compared in pairs.

    The mean over the first REDRAWN choices of samples is resampled, and its deviations are applied
    to the mean over all of them; intervals are thus a little too wide rather than too narrow.
    (Values cannot be averaged first: a cell need not be linear in them, as an AUC is not.)

    Args:
        turned: swaps the perfect unit and the wrong one, for the other side of a difference: its
            most extreme row is one that one judge has right and the other has wrong.

    Raises:
        ValueError: a Table has no extremes.
    """
    looked_at = choices[:REDRAWN]
    if choices[0].extremes is None:
        raise ValueError("the table has no extremes: without them an interval is too narrow.")
    extremes = choices[0].extremes[::-1] if turned else choices[0].extremes
    units = Units.of(choices[0])
    values = np.stack([np.concatenate([t.values, *extremes]) for t in looked_at])  # [C, 3 R, W]
    rng = bootstrap_stream(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        rows, subset, parts, drawn = units.draw(rng)
        redrawn = values[:, rows]
        results = [benchmark.cells(Redrawn(subset, drawn, v, parts)) for v in redrawn]
        for name in results[0]:
            draws.setdefault(name, []).append(sum(cell[name] for cell in results) / len(results))
    everywhere = cells(benchmark, choices)
    here = cells(benchmark, looked_at)
    return {
        name: np.array(values) + (everywhere[name] - here[name]) for name, values in draws.items()
    }


def intervals(
    benchmark: Benchmark, choices: Sequence[Table], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """The mean of each cell over the choices of samples, with its interval from `bootstrap`."""
    draws = bootstrap(benchmark, choices, resamples=resamples, seed=seed)
    return {
        name: percentage(value, draws[name]) for name, value in cells(benchmark, choices).items()
    }


def differences(
    benchmark: Benchmark,
    a: Sequence[Table],
    b: Sequence[Table],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """b - a of each cell in percentage points, with its interval: both are resampled alike, on the
    rows that both have (see `shared`).

    Raises:
        ValueError: the two do not have the same rows in the same order.
    """
    a, b = shared(a, b)
    first = bootstrap(benchmark, a, resamples=resamples, seed=seed)
    second = bootstrap(benchmark, b, resamples=resamples, seed=seed, turned=True)
    before, after = cells(benchmark, a), cells(benchmark, b)
    return {
        name: difference(after[name] - before[name], second[name] - first[name]) for name in before
    }


def shared(a: Sequence[Table], b: Sequence[Table]) -> tuple[list[Table], list[Table]]:
    """Both without the rows that only one of them has, by their lines in the file: if one judge had
    no answer to a row, there is nothing to compare.

    Raises:
        ValueError: the rows that they share differ.
    """
    if a[0].line is not None and b[0].line is not None:
        both = np.intersect1d(a[0].line, b[0].line)
        a, b = ([_at_lines(table, both) for table in tables] for tables in (a, b))
    for name in ("subset", "unit"):
        if not np.array_equal(getattr(a[0], name), getattr(b[0], name)):
            raise ValueError(
                f"the two differ in the {name}s of their rows: only the same rows can be compared."
            )
    if not len(a[0].subset):
        raise ValueError("no row was judged by both: there is nothing to compare.")
    return list(a), list(b)


def _at_lines(table: Table, lines: np.ndarray) -> Table:
    """The rows of a table on these lines of its file."""
    assert table.line is not None
    kept = np.isin(table.line, lines)
    extremes = table.extremes and (table.extremes[0][kept], table.extremes[1][kept])
    return Table(
        table.subset[kept],
        table.unit[kept],
        table.values[kept],
        extremes=extremes,
        line=table.line[kept],
    )
