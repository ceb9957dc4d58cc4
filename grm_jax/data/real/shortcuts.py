"""What a judge reaches that reads nothing: by length alone, and by nine features of the surface.

A judge of real text is worth something where it beats these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from grm_jax.data.real.items import Item
from grm_jax.data.real.sentences import LISTED, sentences, words

RIDGE = 1.0
STEPS = 30


class Labelled(Protocol):
    """Responses, and the number of the best of them."""

    @property
    def responses(self) -> Sequence[str]: ...
    @property
    def label(self) -> int | None: ...


def features(text: str) -> list[float]:
    """Log characters, log words, log sentences, log lines; shares of digits, capitals and commas;
    log list items; whether it ends with a full stop or the like."""
    size = max(1, len(text))
    return [
        np.log1p(len(text)),
        np.log1p(len(words(text))),
        np.log1p(len(sentences(text))),
        np.log1p(text.count("\n")),
        sum(char.isdigit() for char in text) / size,
        sum(char.isupper() for char in text) / size,
        text.count(",") / size,
        np.log1p(len(LISTED.findall(text))),
        float(text.rstrip()[-1:] in (".", "!", "?")),
    ]


def baselines(train: Sequence[Item], heldout: Sequence[Item]) -> dict[str, dict[str, float]]:
    """By kind and over all, on held-out items with two or more responses: how many there are, the
    chance of a guess, and the share in which the longest response, and the one that a logistic
    regression on the train items prefers, is best. Ties count as the share of a guess among them.
    """
    worth = preference(train)
    rows: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for item in heldout:
        if len(item.responses) == 1:
            continue
        row = (
            1 / len(item.responses),
            _won(np.array([float(len(text)) for text in item.responses]), item.label),
            _won(np.array([worth(text) for text in item.responses]), item.label),
        )
        for name in ("all", item.kind):
            rows[name].append(row)
    names = ("guess", "longest", "features")
    return {
        kind: {"items": len(of), **dict(zip(names, np.mean(of, 0).round(3).tolist(), strict=True))}
        for kind, of in sorted(rows.items())
    }


def preference(items: Sequence[Labelled]) -> Callable[[str], float]:
    """What a logistic regression on the features of these items gives to a text: more is better.

    Items of a single response are left out.
    """
    weights, scale = _fitted([item for item in items if len(item.responses) > 1])
    return lambda text: float(np.array(features(text)) / scale @ weights)


def _fitted(items: Sequence[Labelled]) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """Weights of a logistic regression on differences, good less bad, and the features' scale."""
    differences = []
    for item in items:
        found, label = np.array([features(text) for text in item.responses]), item.label or 0
        differences += [found[label] - row for i, row in enumerate(found) if i != label]
    if not differences:
        return np.zeros(9), np.ones(9)
    x = np.array(differences)
    scale = x.std(0) + 1e-9
    x /= scale
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):  # Newton's method
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (1 - p) - RIDGE * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, slope)
    return weights, scale


def _won(values: Float[np.ndarray, " n"], label: int) -> float:
    """1 where the labelled value is the highest, less where it shares that, and 0 elsewhere."""
    top = np.isclose(values, values.max())
    return float(top[label]) / top.sum()
