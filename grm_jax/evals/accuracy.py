"""Voting@1, 2, 4 .. k of a judge on labelled Examples, in one pass over one pool of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from grm_jax.evals.metrics import Estimate, voting_accuracy
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Refusal, Verdict
from grm_jax.text.messages import Example


@dataclass(frozen=True)
class Accuracy:
    """Accuracies per number of samples, and how the samples came out.

    `strict` and `credited` map k to an Estimate in 0..1 over items; `samples` counts all samples,
    `invalid` those without scores by reason; `tokens` is the mean length of a completion.
    """

    strict: dict[int, Estimate]
    credited: dict[int, Estimate]
    items: int
    samples: int
    invalid: dict[str, int]
    tokens: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def measure(
    judge: Judge, examples: Iterable[Example], k: int, progress: Callable[[], Any] = lambda: None
) -> Accuracy:
    """Judges labelled pairs and lists (n >= 2) with k samples each.

    `progress` is called after each item. An item that was refused whole counts as wrong at every k.

    Raises:
        ValueError: an Example has no label, or there are none.
    """
    labels: dict[str, int] = {}
    sizes = [2**i for i in range(k.bit_length()) if 2**i <= k]
    rows: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    invalid: Counter[str] = Counter()
    tokens = samples = 0

    def labelled() -> Iterator[Example]:
        for example in examples:
            if example.label is None or example.n < 2:
                raise ValueError(
                    f"example {example.id} has {example.n} responses and label {example.label}; "
                    "accuracy needs two or more responses and the index of the best."
                )
            labels[example.id] = example.label
            yield example

    for result in judge.judge_all(labelled(), k):
        label = labels.pop(result.id)
        judgments = () if isinstance(result, Refusal) else result.judgments
        for size in sizes:
            rows[size].append(voting_accuracy(judgments, label, size) or (0.0, 0.0))
        samples += k
        tokens += sum(j.tokens for j in judgments)
        invalid.update(result.invalid_reasons if isinstance(result, Verdict) else {"refused": k})
        progress()
    if not samples:
        raise ValueError("there is nothing to judge: no example came in.")
    return Accuracy(
        strict={size: Estimate.of([s for s, _ in rows[size]]) for size in sizes},
        credited={size: Estimate.of([c for _, c in rows[size]]) for size in sizes},
        items=samples // k,
        samples=samples,
        invalid=dict(invalid),
        tokens=tokens / samples,
    )
