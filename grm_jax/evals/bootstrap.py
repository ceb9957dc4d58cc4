"""How sure a benchmark's numbers are: its cells on redrawn rows, and intervals from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table
from grm_jax.evals.intervals import Interval, difference, percentage
from grm_jax.evals.resampling import Redrawn, Units
from grm_jax.evals.scoring import cells
from grm_jax.randomness import bootstrap_stream

REDRAWN = 4  # how many of the choices of samples the bootstrap looks at


def bootstrap(
    benchmark: Benchmark,
    choices: Sequence[Table],
    *,
    resamples: int = 1000,
    seed: int = 0,
    turned: bool = False,
) -> dict[str, np.ndarray]:
    """By cell, its value in [resamples] redrawings of the rows.

    Within each subset as many units are drawn, with replacement, as it has; a unit brings all its
    rows of the subset. Among those that can be drawn are one that is judged perfectly and one that
    is as wrong as can be: rows that all agree do not say that every other row would (Agresti and
    Coull, 1998, add two of each to a share). The same rows and seed give the same redrawings,
    whatever the values: what two votes or two judges say of them is paired.

    What is redrawn is the mean over the first REDRAWN choices of samples; its deviations are laid
    around the mean over all of them, which makes an interval a little too wide rather than too
    narrow. (A cell need not be linear in the rows' values, an AUC is not: values cannot be
    averaged first.)

    Args:
        turned: the perfect unit is the wrong one, and the wrong one perfect: for the other side of
            a difference, of which such rows are the extremes.

    Raises:
        ValueError: a Table does not say what its extremes are.
    """
    looked_at = choices[:REDRAWN]
    if choices[0].extremes is None:
        raise ValueError("the table has no extremes, without which a redrawing is too sure.")
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
    """By cell, the mean over the choices of samples and its interval, as `bootstrap`."""
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
    """By cell, b - a in percentage points and its interval, on the same redrawn units of the rows
    that both have (see `shared`).

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
    """Both without the rows that only one of them has, by their lines in the file: where one judge
    had no answer, there is nothing to compare the other's with.

    Raises:
        ValueError: what they share are not the same rows.
    """
    if a[0].line is not None and b[0].line is not None:
        both = np.intersect1d(a[0].line, b[0].line)
        a, b = ([_at_lines(table, both) for table in tables] for tables in (a, b))
    for name in ("subset", "unit"):
        if not np.array_equal(getattr(a[0], name), getattr(b[0], name)):
            raise ValueError(
                f"the two differ in the {name}s of their rows: a difference is of the same rows."
            )
    if not len(a[0].subset):
        raise ValueError("the two have no row in common that both judged.")
    return list(a), list(b)


def _at_lines(table: Table, lines: np.ndarray) -> Table:
    """The rows of a table that are on these lines of its file."""
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
