"""Chats that show how to judge, for `grm train sft`: of whole items, and of single sentences."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from grm_jax.data.real.config import RealDataConfig
from grm_jax.data.real.critiques import critique, working
from grm_jax.data.real.drills import drills, short_sentences
from grm_jax.data.real.inspection import BEST
from grm_jax.data.real.items import PREFERENCE, Item
from grm_jax.data.real.materials import Material
from grm_jax.randomness import item_key, real_stream
from grm_jax.text.messages import Example, Message
from grm_jax.text.parse import parse_judgment
from grm_jax.text.prompts import Template, Templates

Row = dict[str, Any]


def demonstrations(cfg: RealDataConfig, items: Sequence[Item], templates: Templates) -> list[Row]:
    """A chat for each item about whose label the checks agree. A preference has none, since what
    raters liked cannot be read off by a rule, nor has a problem that takes long to work out. Any
    other problem has one a round: its items would all tell the same working, and that is long."""
    rows, shown = [], Counter[str]()
    for item in items:
        is_problem, key = item.query.gold is not None, item.material.key
        if item.kind == PREFERENCE or (is_problem and not working(item.query)):
            continue
        if shown[key] == cfg.rounds:
            continue
        rng = real_stream(cfg.seed, item_key(item.id))
        binary = item.shape == "single" and rng.random() < 0.5
        text = critique(item.query, item.responses, rng, binary=binary)
        example = Example(item.query.text, item.responses, label=item.label)
        template = templates.asking("grm", example.n, training=binary)
        read = _scores(text, template, example.n)
        if read is None or not _agrees(read, item.label, BEST if not binary else 1):
            continue  # a response that was quoted speaks in the judge's own form
        asked = templates.ask("grm", example, training=binary)
        rows.append({"messages": _chat(asked, text), "id": item.id, "kind": item.kind})
        if is_problem:
            shown[key] += 1
    return rows


def drilled(cfg: RealDataConfig, materials: Sequence[Material], templates: Templates) -> list[Row]:
    """Chats about single sentences of answers, from the materials of the train side."""
    texts = [one for one in materials if one.gold is None]
    own = [short_sentences([a.text for a in one.answers if a.good]) for one in texts]
    rows = []
    for turn, (i, one) in itertools.product(range(cfg.rounds), enumerate(texts)):
        rng = real_stream(cfg.seed, item_key(in_round(f"drill {one.key}", turn)))
        others = [part for k in rng.integers(len(texts), size=4) if k != i for part in own[k]]
        for query, responses in drills(one.prompt, own[i], others, rng):
            text, example = (
                critique(query, responses, rng, binary=False),
                Example(query.text, responses),
            )
            if _scores(text, templates.asking("grm", example.n, training=False), example.n) is None:
                continue  # as in a demonstration
            asked = templates.ask("grm", example, training=False)
            rows.append({"messages": _chat(asked, text)})
    return rows


def in_round(name: str, turn: int) -> str:
    """A name for what is drawn in a round, from 0; in the first the name itself."""
    return f"{name} {turn}" if turn else name


def _scores(text: str, template: Template, n: int) -> tuple[float, ...] | None:
    """What a judge's reader finds in a critique of n responses."""
    return parse_judgment(text, n, template.low, template.high, label=template.label).scores


def _agrees(scores: Sequence[float], label: int, best: int) -> bool:
    """Whether the scores say what the label does; a single response is good if it has the best."""
    if len(scores) == 1:
        return (scores[0] == best) == bool(label)
    return scores[label] > max(score for i, score in enumerate(scores) if i != label)


def _chat(asked: Sequence[Message], told: str) -> list[Row]:
    turns = (*asked, Message("assistant", told))
    return [{"role": turn.role, "content": turn.content} for turn in turns]
