"""Rows and judgments in the form that the macros of `templates/parts.html` take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grm_jax.judging.judgment import Judgment, Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.text.messages import Example

TEMPLATES = Path(__file__).parent / "templates"

Row = dict[str, Any]


def turns(example: Example) -> list[Row]:
    """The prompt, turn by turn."""
    return [{"role": turn.role, "content": turn.content} for turn in example.prompt]


def responses(texts: Sequence[str], best: int | None, scores: Sequence[float] | None) -> list[Row]:
    """Responses with their scores, in the order that a judge saw.

    best: the index of the best one in that order.
    """
    return [
        {
            "place": index + 1,
            "text": text,
            "best": index == best,
            "score": f"{scores[index]:g}" if scores else None,
        }
        for index, text in enumerate(texts)
    ]


def shown(example: Example, judgment: Judgment) -> Row:
    """A judgment with the responses as its judge saw them."""
    order, scores, label = judgment.order, judgment.scores, example.label
    return {
        "responses": responses(
            [example.responses[i] for i in order],
            order.index(label) if label is not None and example.n > 1 else None,
            scores and [scores[i] for i in order],
        ),
        "text": judgment.text,
        "reason": judgment.reason,
        "meta": judgment.meta,
        "tokens": judgment.tokens,
    }


def typical(sampled: Sampled, verdict: str) -> Judgment:
    """The judgment to show: the first that agrees with the verdict, best rated ones first; else the
    first that has scores, else the first."""
    judgments, label = sampled.judgments, sampled.example.label or 0
    # Without meta scores the order stays as it is.
    rated = sorted(judgments, key=lambda j: -math.inf if j.meta is None else j.meta, reverse=True)
    readable = [j for j in rated if j.scores is not None]
    agreeing = [j for j in readable if is_correct(j.scores, label) == (verdict == "right")]
    return next(iter(agreeing or readable or judgments))
