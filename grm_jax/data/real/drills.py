"""Drills: several single sentences under one query, each judged by itself.

A pair of answers shows a model one decision in some three hundred tokens, and a small model learns
few of them in an hour. A drill shows five in not twice as many, and says of each what a critique of
an answer would say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from numpy.random import Generator

from grm_jax.data.real.faults import ending
from grm_jax.data.real.faults import topic as topics
from grm_jax.data.real.finding import Query
from grm_jax.data.real.kinds import CONSTRAINTS
from grm_jax.data.real.sentences import is_prose, sentences

RESPONSES = 5
WISHED = 3  # drills of a wish for each prompt
WORDS = range(5, 21)  # of a sentence
TOPIC = 160  # characters of a query that is shown
# Wishes that can be put to any sentence.
WISHES = ("lowercase", "uppercase", "start_phrase", "end_phrase", "title", "in_quotes", "in_json")
CUT, AGAIN = 0.25, 0.15  # the share of sentences that break off, and that come twice
TRIES = 40


def short_sentences(texts: Sequence[str]) -> list[str]:
    """The sentences of prose that have as many words as a drill's have."""
    found = (part for text in texts if is_prose(text) for part in sentences(text))
    return list(dict.fromkeys(part for part in found if len(part.split()) in WORDS))


def drills(
    topic: str, own: Sequence[str], others: Sequence[str], rng: Generator
) -> Iterator[tuple[Query, tuple[str, ...]]]:
    """Wishes that some of the sentences keep, and a query that some of them take up.

    own: sentences of answers to the prompt `topic`. others: of answers to other prompts.
    """
    pool = list(dict.fromkeys((*own, *others)))  # some sentences stand in many answers
    for _ in range(WISHED if len(pool) >= RESPONSES else 0):
        bases = [_worn(pool[i], rng) for i in rng.choice(len(pool), RESPONSES, replace=False)]
        if (wished := _wished(bases, rng)) is not None:
            yield wished
    query = Query(topic)
    told = {text: found.ok for text in pool if (found := topics.check(query, text)) is not None}
    sides = [[text for text in told if told[text] == ok] for ok in (False, True)]
    if len(topic) <= TOPIC and all(sides):
        drawn = [sides[int(rng.integers(2))] for _ in range(RESPONSES)]
        texts = dict.fromkeys(side[int(rng.integers(len(side)))] for side in drawn)
        yield query, tuple(_worn(text, rng) for text in texts)


def _worn(sentence: str, rng: Generator) -> str:
    """The sentence, or that with a fault which needs no query to be seen."""
    chance = rng.random()
    if chance < CUT:
        return ending.spoil(Query(""), sentence, rng) or sentence
    return f"{sentence} {sentence}" if chance < CUT + AGAIN else sentence


def _wished(bases: Sequence[str], rng: Generator) -> tuple[Query, tuple[str, ...]] | None:
    """A wish, and the sentences made so that each keeps or breaks it; None where it suits none."""
    propose = CONSTRAINTS[WISHES[int(rng.integers(len(WISHES)))]]
    first = propose(bases[0], bases[0], rng)
    if first is None:
        return None
    wish, texts = first[0], []
    for base in bases:
        kept = rng.random() < 0.5
        for _ in range(TRIES):  # a wish has several wordings and phrases
            made = propose(base, base, rng)
            if made is not None and made[0].instruction == wish.instruction:
                texts.append(made[1] if kept else made[2])
                break
        else:
            texts.append(base)
    return Query("", constraint=wish), tuple(texts)
