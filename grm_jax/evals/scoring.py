"""From a file of samples to a benchmark's cells: every way to vote, and how sure its numbers are.

One pool of K samples per row serves every k: the groups of k numbers that `choices` draws from it
are each as good as k fresh samples, so the mean over them is unbiased (and steadier than one).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table, Totals, extreme_totals, rows_had
from grm_jax.evals.intervals import Interval, difference, percentage
from grm_jax.evals.resampling import Redrawn, Units
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.samples import read_samples
from grm_jax.judging.voting import guide

# Of k < K samples at least so many groups are drawn, and in the bootstrap so many are looked at.
CHOICES, REDRAWN = 8, 4
# Keeps the permutations apart from whatever else is drawn from a small seed.
_PERMUTATIONS = 5


@dataclass(frozen=True)
class Vote:
    """One way to vote: k samples, or of k samples the `k_meta` that the meta RM rates highest.

    k_meta: by default half of k.

    Raises:
        ValueError: a number out of its range.
    """

    k: int
    guided: bool = False
    k_meta: int | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; a vote needs at least one sample.")
        if self.k_meta is not None and not (self.guided and 1 <= self.k_meta <= self.k):
            raise ValueError(
                f"k_meta is {self.k_meta} of {self.k} samples: give 1 to k, for a guided vote."
            )

    @property
    def label(self) -> str:
        """The paper's name of it."""
        if not self.guided:
            return f"Voting@{self.k}"
        return f"MetaRM@{self.k}" + (f" (k_meta {self.k_meta})" if self.k_meta else "")


class Unanswered(Exception):
    """Not one row has a judgment; says why in the judge's words."""


@dataclass
class _Column:
    """The values of one vote as they come in: C groups of k sample numbers, W numbers for each."""

    vote: Vote
    groups: np.ndarray
    values: array[float] = field(default_factory=lambda: array("d"))


def choices(pool: int, k: int) -> np.ndarray:
    """Groups [C, k] of sample numbers 0 .. pool-1, the same for every row.

    k = 1 takes every sample once, k = pool all of them; in between they are the disjoint groups of
    as few permutations as give CHOICES of them.

    Raises:
        ValueError: k is above pool.
    """
    if k > pool:
        raise ValueError(f"k is {k}, but there are only {pool} samples of each row: sample more.")
    if k in (1, pool):
        return np.arange(pool).reshape(-1, k)
    rng = np.random.default_rng([pool, k, _PERMUTATIONS])
    each = pool // k
    orders = [np.arange(pool)]
    while len(orders) * each < CHOICES:
        orders.append(rng.permutation(pool))
    return np.concatenate([order[: each * k].reshape(each, k) for order in orders])


def tables(
    benchmark: Benchmark, samples: Path, votes: Sequence[Vote], *, scalar: bool = False
) -> dict[Vote, list[Table]]:
    """For each vote a Table per choice of its k samples from the pool.

    One pass over the file; memory holds C x W numbers per row and vote. An Example none of whose
    judgments can be read counts with totals None. A Refusal is in no table: neither a row that had
    no answer, nor one that could not be read or that the official script leaves out.

    Args:
        scalar: the judge is a scalar model, for which some benchmarks have a rule of their own.

    Raises:
        ValueError: rows with different numbers of samples, fewer than a vote needs, no meta score
            for a guided vote, or no row at all.
        Unanswered: there are rows, and none has an answer.
    """
    columns: list[_Column] = []
    subset: list[str] = []
    unit: list[str] = []
    place: list[int] = []
    extremes = array("d")
    pool, rated, readable = 0, False, False
    unanswered: list[str] = []
    for number, row in enumerate(read_samples(samples)):
        if isinstance(row, Refusal):
            if had_no_answer(row):
                unanswered.append(row.error if not unanswered else "")
            continue
        if not subset:
            pool = len(row.judgments)
            columns = [_Column(vote, choices(pool, vote.k)) for vote in votes]
        if len(row.judgments) != pool:
            raise ValueError(
                f"{samples}: {row.example.id} has {len(row.judgments)} judgments, and the rows "
                f"before it {pool}: an evaluation samples every row alike."
            )
        subset.append(benchmark.subset(row.example))
        unit.append(str(row.example.meta.get("unit", row.example.id)))
        place.append(number)
        for extreme in extreme_totals(row.example):
            extremes.extend(benchmark.value(row.example, extreme, scalar))
        rated |= any(judgment.meta is not None for judgment in row.judgments)
        readable |= any(judgment.scores is not None for judgment in row.judgments)
        for column in columns:
            for summed in totals(row, column.vote, column.groups):
                column.values.extend(benchmark.value(row.example, summed, scalar))
    if not subset and unanswered:
        raise Unanswered(
            f"{samples}: none of {rows_had(len(unanswered))} an answer. The first: {unanswered[0]}"
        )
    if not subset:
        raise ValueError(f"{samples} has no row that was judged: there is nothing to score.")
    if readable and not rated and any(vote.guided for vote in votes):
        raise ValueError(
            f"{samples} has no meta scores, which a guided vote needs: give a --meta-rm."
        )
    subsets, units, places = np.array(subset), np.array(unit), np.array(place)
    best, worst = np.array(extremes).reshape(len(subset), 2, -1).transpose(1, 0, 2)
    return {
        column.vote: [
            Table(
                subsets,
                units,
                np.ascontiguousarray(values),
                extremes=(best, worst),
                place=places,
            )
            for values in np.array(column.values)
            .reshape(len(subset), len(column.groups), -1)
            .transpose(1, 0, 2)
        ]
        for column in columns
    }


def totals(sampled: Sampled, vote: Vote, groups: np.ndarray) -> list[Totals | None]:
    """The summed scores (equations 12-14), over how many were summed, of each group [C, k] of a
    row's judgments; None where a group has none that can be read."""
    judgments = sampled.judgments
    scored = [judgment.scores is not None for judgment in judgments]
    if not any(scored):
        return [None] * len(groups)
    nothing = (0.0,) * sampled.example.n
    scores = np.array([judgment.scores or nothing for judgment in judgments], np.float64)
    counts = np.array(scored)[groups]  # [C, k]
    if vote.guided:
        counts &= np.array([_kept(judgments, group, vote) for group in groups])
    sums = (scores[groups] * counts[..., None]).sum(1)
    numbers = counts.sum(1)
    means = (sums / np.maximum(numbers, 1)[:, None]).tolist()
    return [tuple(m) if n else None for m, n in zip(means, numbers, strict=True)]


def _kept(judgments: Sequence[Judgment], group: np.ndarray, vote: Vote) -> list[bool]:
    return [j.counted for j in guide([judgments[i] for i in group], vote.k_meta)]


def cells(benchmark: Benchmark, choices: Sequence[Table]) -> dict[str, float]:
    """The benchmark's cells, in percent: the mean over the choices of samples."""
    found = [benchmark.cells(table) for table in choices]
    return {name: float(np.mean([cell[name] for cell in found])) for name in found[0]}


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
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        rows, subset, parts, drawn = units.draw(rng)
        redrawn = values[:, rows]
        found = [benchmark.cells(Redrawn(subset, drawn, v, parts)) for v in redrawn]
        for name in found[0]:
            draws.setdefault(name, []).append(sum(cell[name] for cell in found) / len(found))
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
    """Both without the rows that only one of them has, by their places in the file: where one
    judge had no answer, there is nothing to hold the other's against.

    Raises:
        ValueError: what they share are not the same rows.
    """
    if a[0].place is not None and b[0].place is not None:
        both = np.intersect1d(a[0].place, b[0].place)
        a, b = ([_at(table, both) for table in tables] for tables in (a, b))
    for name in ("subset", "unit"):
        if not np.array_equal(getattr(a[0], name), getattr(b[0], name)):
            raise ValueError(
                f"the two differ in the {name}s of their rows: a difference is of the same rows."
            )
    if not len(a[0].subset):
        raise ValueError("the two have no row in common that both judged.")
    return list(a), list(b)


def _at(table: Table, places: np.ndarray) -> Table:
    """The rows of a table that are at these places of its file."""
    assert table.place is not None
    kept = np.isin(table.place, places)
    extremes = table.extremes and (table.extremes[0][kept], table.extremes[1][kept])
    return Table(
        table.subset[kept],
        table.unit[kept],
        table.values[kept],
        extremes=extremes,
        place=table.place[kept],
    )


def had_no_answer(row: Sampled | Refusal) -> bool:
    """Whether it is a row of the benchmark that was to be judged and was not."""
    return isinstance(row, Refusal) and row.row is not None and not row.row.get("left_out")
