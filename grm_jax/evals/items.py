"""Labelled items as a Benchmark, and Voting@k and MetaRM@k on them with standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from grm_jax.evals.benchmark import Benchmark, Table, Totals, credit
from grm_jax.evals.scoring import Scorer
from grm_jax.evals.votes import Vote, disjoint, doublings
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example


class Value(NamedTuple):
    """The value of a verdict on an item: with ties credited, and with ties counted as wrong."""

    credited: Any
    strict: Any


def _value(example: Example, totals: Totals | None, scalar: bool) -> Value:
    if example.label is None or example.n < 2:
        raise ValueError(
            f"example {example.id} has {example.n} responses and label {example.label}; "
            "accuracy needs two or more responses and the index of the best."
        )
    return Value(credit(totals, example.label), float(is_correct(totals, example.label)))


def _cells(table: Table) -> dict[str, float]:
    return {"accuracy": 100 * float(Value(*table.values.T).credited.mean())}


ITEMS = Benchmark(
    name="items",
    title="held-out items",
    hub="a run of grm train spct",
    full={},
    count=lambda table: {},
    headline="accuracy",
    read=lambda data: iter(()),
    value=_value,
    cells=_cells,
)


@dataclass(frozen=True)
class Estimate:
    """A mean over items and its standard error, both in the unit of the values."""

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        """The mean of values, one per item; its error is the sample deviation over sqrt(count)."""
        count = len(values)
        error = values.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
        return cls(float(values.mean()), float(error), count)


@dataclass(frozen=True)
class ItemsReport:
    """Accuracies by number of samples, and statistics of the samples.

    `strict`, `credited` and `guided` map k to an Estimate in 0..1 over items: Voting@k, strict and
    with ties credited, and MetaRM@k with ties credited; `gain` is the paired difference of MetaRM@k
    and Voting@k. The last two are empty without meta scores. `samples` counts all samples,
    `invalid` those without scores by reason; `tokens` is the mean length of a judgment;
    `unanswered` items are neither right nor wrong.
    """

    strict: dict[int, Estimate]
    credited: dict[int, Estimate]
    guided: dict[int, Estimate]
    gain: dict[int, Estimate]
    items: int
    samples: int
    invalid: dict[str, int]
    tokens: float
    unanswered: int = 0


def measure_items(rows: Iterable[Sampled | Refusal], k: int) -> ItemsReport:
    """The accuracies at 1, 2, 4 .. k samples, each averaged over disjoint groups of that size.

    Raises:
        ValueError: an item has no label or a single response; there are no items, or none had an
            answer.
    """
    sizes = doublings(k)
    votes = [Vote(n, guided) for guided in (False, True) for n in sizes]
    scorer = Scorer(ITEMS, "the samples", lambda pool: votes, groups=disjoint)
    refusals = 0
    first = ""
    for row in rows:
        scorer.add(row)
        if isinstance(row, Refusal):
            refusals, first = refusals + 1, first or row.error
    if not scorer.survey.rows and refusals:
        raise ValueError(f"none of {refusals} items had an answer. The first: {first}")
    if not scorer.survey.rows:
        raise ValueError("there is nothing to judge: no example came in.")
    means = {v: np.mean([t.values for t in groups], 0) for v, groups in scorer.tables().items()}
    values = {vote: Value(*np.ascontiguousarray(mean.T)) for vote, mean in means.items()}
    guided = {n: values[Vote(n, True)].credited for n in sizes if Vote(n, True) in values}
    plain = {n: values[Vote(n)] for n in sizes}
    return ItemsReport(
        strict={n: Estimate.of(value.strict) for n, value in plain.items()},
        credited={n: Estimate.of(value.credited) for n, value in plain.items()},
        guided={n: Estimate.of(value) for n, value in guided.items()},
        gain={n: Estimate.of(value - plain[n].credited) for n, value in guided.items()},
        items=scorer.survey.rows,
        samples=scorer.survey.judgments,
        invalid=dict(scorer.survey.invalid),
        tokens=scorer.survey.mean_tokens,
        unanswered=refusals,
    )
