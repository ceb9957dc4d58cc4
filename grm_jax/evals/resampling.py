"""Resampling the rows of a Table for the bootstrap: units, with replacement, within each subset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grm_jax.evals.benchmark import Table


@dataclass(frozen=True)
class Redrawn(Table):
    """A Table whose rows are sorted by subset, so that `of` need not search."""

    parts: dict[str, slice]

    def of(self, *subsets: str) -> np.ndarray:
        """As `Table.of`."""
        parts = [self.values[self.parts[name]] for name in subsets if name in self.parts]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else self.values[:0]


@dataclass(frozen=True)
class Units:
    """The rows of a Table by subset and unit. A unit with rows in two subsets counts as two.

    Attributes:
        order: [R] the rows, sorted by subset and, within a subset, by unit.
        subset: [R] their subsets, in that order.
        starts, sizes: [U] where the rows of a unit begin in `order`, and how many there are.
        firsts, counts: [U] the first unit of the same subset, and how many units it has.
        last: the last unit of each subset.
    """

    order: np.ndarray
    subset: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    firsts: np.ndarray
    counts: np.ndarray
    last: dict[str, int]

    @classmethod
    def of(cls, table: Table) -> Units:
        """Sorts the rows."""
        names, codes = np.unique(table.subset.astype(str), return_inverse=True)
        _, units = np.unique(table.unit.astype(str), return_inverse=True)
        order = np.lexsort((units, codes))
        codes, units = codes[order], units[order]
        new = (np.diff(codes, prepend=-1) != 0) | (np.diff(units, prepend=-1) != 0)
        starts = np.flatnonzero(new)
        ends = np.searchsorted(codes[starts], np.arange(len(names)), "right")
        counts = np.diff(ends, prepend=0)
        return cls(
            order,
            table.subset[order],
            starts,
            np.diff(starts, append=len(order)),
            np.repeat(ends - counts, counts),
            np.repeat(counts, counts),
            {str(name): int(end) - 1 for name, end in zip(names, ends, strict=True)},
        )

    def draw(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, dict[str, slice], np.ndarray]:
        """Draws as many units of each subset as it has, from these and two more: one of them judged
        perfectly (rows R .. 2 R - 1), and one judged as wrongly as possible (2 R .. 3 R - 1).

        Returns:
            The rows, their subsets, where the rows of each subset are, and the draw of each row: a
            unit that is drawn twice counts as two.
        """
        drawn = rng.integers(self.counts + 2)
        beyond = np.maximum(drawn - self.counts + 1, 0)  # 0, or 1 and 2 for the two extremes
        drawn = self.firsts + np.where(beyond, rng.integers(self.counts), drawn)
        sizes = self.sizes[drawn]
        ends = np.cumsum(sizes)
        index = np.repeat(self.starts[drawn] - (ends - sizes), sizes) + np.arange(ends[-1])
        parts, start = {}, 0
        for name, last in self.last.items():
            parts[name] = slice(start, int(ends[last]))
            start = int(ends[last])
        rows = self.order[index] + len(self.order) * np.repeat(beyond, sizes)
        return rows, self.subset[index], parts, np.repeat(np.arange(len(drawn)), sizes)
