"""What each judge and each baseline is worth on every row of `grm data real`.

A row's credit is 1 where the labelled response is best, less where it shares that, else 0; of a
single response whether it is told right (1) from wrong (0), a half where that is open. A judgment
that cannot be read has no credit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from grm_jax.data.config import ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.data.real.items import PREFERENCE
from grm_jax.data.real.shortcuts import preference
from grm_jax.evals.benchmark import Totals, credit
from grm_jax.evals.votes import Vote, choices, totals
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.samples import read_samples
from grm_jax.text.messages import Example

Arm = tuple[str, Vote] | str  # a judge's vote, or a baseline
FAULTS, PAIRS, FOUR, SINGLE, LIKED = "faults", "pairs", "four", "single", "preference"


class Estimate(NamedTuple):
    """A mean in percent, and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.1f} ± {self.error:.1f}"

    @property
    def signed(self) -> str:
        """Of a difference."""
        return f"{self.value:+.1f} ± {self.error:.1f}"


@dataclass(frozen=True)
class RealRows:
    """The rows that all judges have judged, in one order.

    Attributes:
        examples: the rows.
        judged: by judge, their judgments.
        left_out: how many rows one of the judges has no answer to.
        credits: [R] by judge and vote; those of baselines by their names.
    """

    examples: tuple[Example, ...]
    judged: Mapping[str, tuple[Sampled, ...]]
    left_out: int
    credits: Mapping[Arm, Float[np.ndarray, " R"]]

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Which rows [R] a column of the tables is of."""
        kinds = np.array([kind_of(one) for one in self.examples])
        sizes = np.array([one.n for one in self.examples])
        sure = kinds != PREFERENCE
        return {
            FAULTS: sure & (sizes > 1),
            PAIRS: sure & (sizes == 2),
            FOUR: sure & (sizes > 2),
            SINGLE: sizes == 1,
            LIKED: ~sure,
        }

    @property
    def kinds(self) -> dict[str, np.ndarray]:
        """The rows [R] of each kind of fault, with two or more responses."""
        kinds = np.array([kind_of(one) for one in self.examples])
        several = np.array([one.n > 1 for one in self.examples])
        return {str(kind): several & (kinds == kind) for kind in sorted(set(kinds.tolist()))}

    def mean(self, arm: Arm, rows: np.ndarray) -> Estimate | None:
        """The accuracy of a judge's vote, or of a baseline; None where there are no rows."""
        return self._estimate(self.credits[arm], rows)

    def gain(self, arm: Arm, other: Arm, rows: np.ndarray) -> Estimate | None:
        """The first minus the second, paired by row."""
        return self._estimate(self.credits[arm] - self.credits[other], rows)

    def _estimate(self, values: np.ndarray, rows: np.ndarray) -> Estimate | None:
        units = np.array([str(one.meta.get("unit", one.id)) for one in self.examples])
        return estimate(values[rows], units[rows]) if rows.any() else None


def estimate(values: Float[np.ndarray, " R"], units: np.ndarray) -> Estimate:
    """The mean in percent, with the standard error of rows that come in units: those of one prompt
    vary together. That of a ratio of sums over units (Cochran, Sampling Techniques, 6.4)."""
    names, places = np.unique(units, return_inverse=True)
    count = len(names)
    deviations = np.bincount(places, values - values.mean(), minlength=count)
    spread = np.sqrt(np.square(deviations).sum() * count / max(count - 1, 1)) / len(values)
    return Estimate(100 * float(values.mean()), 100 * float(spread))


def kind_of(example: Example) -> str:
    """The kind of fault that a row is about."""
    return str(example.meta.get("kind", "unknown"))


def read_rows(
    files: Mapping[str, Path], votes: Sequence[Vote], train: Sequence[Example]
) -> RealRows:
    """The credits of all judges, from their files of samples, and of the baselines.

    Args:
        train: the rows on which the surface features are fitted.
    """
    found = {
        name: {row.example.id: row for row in read_samples(path) if isinstance(row, Sampled)}
        for name, path in files.items()
    }
    first, *others = found.values()
    names = [name for name in first if all(name in other for other in others)]
    everything = {name for rows in found.values() for name in rows}
    judged = {judge: tuple(rows[name] for name in names) for judge, rows in found.items()}
    examples = tuple(row.example for row in next(iter(judged.values())))
    credits: dict[Arm, np.ndarray] = {
        (judge, vote): np.array([_credit(one, vote) for one in sampled])
        for judge, sampled in judged.items()
        for vote in votes
        if vote.k <= min(len(one.judgments) for one in sampled)
        and (not vote.guided or any(j.meta is not None for one in sampled for j in one.judgments))
    }
    credits |= _baselines(examples, train)
    return RealRows(examples, judged, len(everything) - len(names), credits)


def train_rows(path: str | Path) -> list[Example]:
    """The labelled rows of a train.jsonl."""
    return load_items((ItemsConfig(source=str(path)),), 0)


def worth(found: Totals | None, example: Example) -> float:
    """The credit of the totals of a row."""
    label = example.label or 0
    if example.n > 1:
        return credit(found, label)
    if found is None:
        return 0.0
    return 0.5 if found[0] == 0.5 else float((found[0] > 0.5) == bool(label))


def _credit(row: Sampled, vote: Vote) -> float:
    """The mean over groups of k of the row's samples."""
    groups = totals(row, vote, choices(len(row.judgments), vote.k))
    return float(np.mean([worth(found, row.example) for found in groups]))


def _baselines(examples: Sequence[Example], train: Sequence[Example]) -> dict[Arm, np.ndarray]:
    def of(value: Callable[[str], float]) -> np.ndarray:
        return np.array(
            [
                credit(tuple(map(value, one.responses)), one.label or 0) if one.n > 1 else 0.5
                for one in examples
            ]
        )

    return {
        "a guess": np.array([1 / max(one.n, 2) for one in examples]),
        "the longer response": of(lambda text: float(len(text))),
        "nine surface features": of(preference(train)),
    }
