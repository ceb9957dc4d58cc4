"""Several ways to judge the same rows, each compared with the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from grm_jax.evals import paper
from grm_jax.evals.experiments.figures import Panel, Series
from grm_jax.evals.experiments.findings import Grid, plain, shown
from grm_jax.evals.experiments.measure import Measured, as_json
from grm_jax.evals.intervals import Interval
from grm_jax.evals.votes import Vote


@dataclass(frozen=True)
class Arm:
    """One way to judge: its measurement, and the vote that counts."""

    label: str
    measured: Measured
    vote: Vote

    def value(self, cell: str | None = None) -> Interval:
        """A cell; by default the benchmark's headline."""
        return self.measured.value(self.vote, cell)

    def gain(self, first: Arm) -> Interval:
        """The headline minus the first arm's, paired."""
        return self.measured.gain(self.vote, first.measured, first.vote)


def compare(caption: str, arms: Sequence[Arm], cells: Sequence[str] = ()) -> Grid:
    """A row per arm: the headline, its paired difference from the first arm, and further cells."""
    headline = arms[0].measured.benchmark.headline
    columns = ["judge", headline, f"minus {arms[0].label}, paired", *cells]
    lines = [
        [
            arm.label,
            shown(arm.value()),
            shown(arm.gain(arms[0]), sign=True) if place else "",
            *(shown(arm.value(cell)) for cell in cells),
        ]
        for place, arm in enumerate(arms)
    ]
    return Grid(caption, columns, lines)


def paper_grid(
    caption: str, lines: Sequence[paper.Row], names: Sequence[str], values: Sequence[str]
) -> Grid:
    """Lines of a table in the paper: columns of words, then columns of numbers."""
    rows = [
        [*(line[name] for name in names), *(plain(line[value]) for value in values)]
        for line in lines
    ]
    return Grid(caption, [*names, *values], rows)


def arms_panel(title: str, arms: Sequence[Arm], y: str = "accuracy, %") -> Panel:
    """The headline of each arm with its interval."""
    points = {float(place): arm.value() for place, arm in enumerate(arms)}
    names = tuple(arm.label for arm in arms)
    return Panel(title, "", y, (Series("95 % interval", points, 1),), names)


def paper_panel(title: str, values: dict[str, float], y: str) -> Panel:
    """The paper's numbers by name, without intervals, since it prints none."""
    series = Series.plain("as printed", dict(enumerate(values.values())), 0)
    return Panel(title, "", y, (series,), tuple(values))


def arms_json(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The arms for data.json."""
    return [
        {
            "arm": arm.label,
            "vote": asdict(arm.vote),
            "difference_to_first": as_json(arm.gain(arms[0])) if place else None,
            **arm.measured.to_json(),
        }
        for place, arm in enumerate(arms)
    ]
