"""Voting@1, 2, 4 .. k and MetaRM@k on labelled Examples, from one pool of samples per item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from grm_jax.evals.metrics import Estimate, voting_accuracy
from grm_jax.judging.judgment import Refusal, Sampled


@dataclass(frozen=True)
class Accuracy:
    """Accuracies per number of samples, and how the samples came out.

    `strict`, `credited` and `guided` map k to an Estimate in 0..1 over items: Voting@k, strict and
    with ties credited, and MetaRM@k with ties credited; `gain` is the paired difference of MetaRM@k
    and Voting@k. The last two are empty without meta scores. `samples` counts all samples,
    `invalid` those without scores by reason; `tokens` is the mean length of a completion.
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

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


@dataclass
class Tally:
    """Adds up items as they come; holds a few numbers per item.

    Args:
        k: samples per item; accuracies are for 1, 2, 4 .. k.
        k_meta: how many judgments of k the meta RM keeps; by default half.
    """

    k: int
    k_meta: int | None = None
    _rows: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    _invalid: Counter[str] = field(default_factory=Counter)
    _tokens: int = 0
    _items: int = 0
    _refusals: list[str] = field(default_factory=list)

    def add(self, result: Sampled | Refusal) -> None:
        """Counts an item; one that was refused has no answer, which is neither right nor wrong.

        Raises:
            ValueError: the item has no label, or is a single response.
        """
        if isinstance(result, Refusal):
            self._refusals.append(result.error if not self._refusals else "")
            return
        example, judgments = result.example, result.judgments[: self.k]
        label = example.label
        if label is None or example.n < 2:
            raise ValueError(
                f"example {example.id} has {example.n} responses and label {label}; "
                "accuracy needs two or more responses and the index of the best."
            )
        self._invalid.update(j.reason for j in judgments if j.reason is not None)
        self._tokens += sum(j.tokens for j in judgments)
        self._items += 1
        rated = any(j.meta is not None for j in judgments)
        for size in self._sizes():
            strict, credited = voting_accuracy(judgments, label, size)
            self._put("strict", size, strict)
            self._put("credited", size, credited)
            if rated or "guided" in self._rows:
                _, guided = voting_accuracy(judgments, label, size, True, self.k_meta)
                self._put("guided", size, guided)
                self._put("gain", size, guided - credited)

    def result(self) -> Accuracy:
        """The estimates over all items so far.

        Raises:
            ValueError: there were none, or none had an answer.
        """
        if not self._items and self._refusals:
            raise ValueError(
                f"none of {len(self._refusals)} items had an answer. The first: {self._refusals[0]}"
            )
        if not self._items:
            raise ValueError("there is nothing to judge: no example came in.")
        estimates = {
            name: {size: Estimate.of(values) for size, values in sizes.items()}
            for name, sizes in self._rows.items()
        }
        return Accuracy(
            strict=estimates["strict"],
            credited=estimates["credited"],
            guided=estimates.get("guided", {}),
            gain=estimates.get("gain", {}),
            items=self._items,
            samples=self._items * self.k,
            invalid=dict(self._invalid),
            tokens=self._tokens / (self._items * self.k),
            unanswered=len(self._refusals),
        )

    def _sizes(self) -> list[int]:
        return [2**i for i in range(self.k.bit_length()) if 2**i <= self.k]

    def _put(self, name: str, size: int, value: float) -> None:
        self._rows.setdefault(name, {}).setdefault(size, []).append(value)


def accuracy(results: Iterable[Sampled | Refusal], k: int, k_meta: int | None = None) -> Accuracy:
    """The accuracies of a stream of sampled items.

    Raises:
        ValueError: as `Tally`.
    """
    tally = Tally(k, k_meta)
    for result in results:
        tally.add(result)
    return tally.result()
