"""Whether a judge favours the response that it is shown first, before and after shuffling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grm_jax.evals.benchmark import credit
from grm_jax.evals.experiments.real_rows import Estimate, estimate
from grm_jax.judging.judgment import Judgment, Sampled

FIRST, SECOND, BIAS = "right, better one first", "right, better one second", "first one wins"
ONE, BOTH = "two votes in one order", "two votes, one in each"
COLUMNS = (FIRST, SECOND, BIAS, ONE, BOTH)


def position(rows: Sequence[Sampled]) -> dict[str, Estimate | None]:
    """Of pairs, in percent: how often a judgment is right where the better response is shown first,
    and where second; how often the one that is shown first wins, of judgments that can be read (50
    without bias where orders are drawn); and how often two judgments in one order are right, and
    two in opposite orders."""
    found: dict[str, list[tuple[float, str]]] = {name: [] for name in COLUMNS}
    for row in rows:
        example = row.example
        if example.n != 2:
            continue
        label, unit = example.label or 0, str(example.meta.get("unit", example.id))
        orders: tuple[list[Judgment], list[Judgment]] = ([], [])  # by what is shown first
        for one in row.judgments:
            orders[one.order[0]].append(one)
            better = FIRST if one.order[0] == label else SECOND
            found[better].append((credit(one.scores, label), unit))
            if one.scores is not None:
                found[BIAS].append((credit(one.scores, one.order[0]), unit))
        if min(map(len, orders)) < 2:
            continue
        for same in orders:
            found[ONE].append((_voted(same[:2], label), unit))
        for at in (0, 1):
            found[BOTH].append((_voted([orders[0][at], orders[1][at]], label), unit))
    return {name: _mean(values) for name, values in found.items()}


def _voted(judgments: Sequence[Judgment], label: int) -> float:
    read = [one.scores for one in judgments if one.scores is not None]
    return credit(tuple(map(sum, zip(*read, strict=True))) if read else None, label)


def _mean(values: Sequence[tuple[float, str]]) -> Estimate | None:
    if not values:
        return None
    numbers, units = zip(*values, strict=True)
    return estimate(np.array(numbers), np.array(units))
