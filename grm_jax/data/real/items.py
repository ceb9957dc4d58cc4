"""Items: a good response beside others with a fault that a check finds, or one alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from numpy.random import Generator

from grm_jax.data.real.faults import topic
from grm_jax.data.real.finding import Query
from grm_jax.data.real.kinds import (
    BESIDE,
    BESIDE_PROBLEM,
    CONSTRAINTS,
    OFF_TOPIC,
    SPOILING,
    WRONG_SOLUTION,
    Quota,
    has_fault,
    is_sound,
    kinds_to_try,
)
from grm_jax.data.real.materials import Answer, Material

T = TypeVar("T")

PREFERENCE = "preference"
SHAPES, SHARES = ("pair", "four", "single"), (0.6, 0.2, 0.2)
MARGIN = 2.0  # between the scores of a preference, of 10
TRIES = 6


@dataclass(frozen=True)
class Item:
    """A query, its responses, and which is best; of one alone, whether it is good.

    Attributes:
        kind: the fault that the item is about.
        kinds: of each response its fault, or "good".
        shape: pair, four or single.
        material: what it was made of.
    """

    query: Query
    responses: tuple[str, ...]
    label: int
    kind: str
    kinds: tuple[str, ...]
    shape: str
    material: Material

    @property
    def digest(self) -> str:
        """A hash of what is shown, in whatever order."""
        shown = "\0".join((self.query.text, *sorted(self.responses)))
        return hashlib.sha256(shown.encode()).hexdigest()[:12]

    @property
    def id(self) -> str:
        """The kind and the digest."""
        return f"{self.kind}-{self.digest}"

    @property
    def characters(self) -> int:
        """Of the query and the responses together."""
        return len(self.query.text) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Drawn:
    """A good and a bad response to a query."""

    query: Query
    good: str
    bad: str

    @property
    def longer(self) -> int:
        """1 where the bad response is the longer one, -1 where the good one is, 0 for neither."""
        return (len(self.bad) > len(self.good)) - (len(self.bad) < len(self.good))


@dataclass(frozen=True)
class Maker:
    """Makes the items of one prompt.

    Attributes:
        donors: answers to other prompts, for what is off topic.
        quota: of all prompts.
        most: items, at most, each of another kind; a preference does not count.
        longest: characters of an item, at most.
    """

    material: Material
    donors: Sequence[str]
    quota: Quota
    rng: Generator
    most: int
    longest: int

    @property
    def query(self) -> Query:
        """The prompt as it is."""
        return Query(self.material.prompt, gold=self.material.gold, working=self.material.working)

    def items(self) -> Iterator[Item]:
        """The items, and before them a preference with a clear margin, if there is one."""
        goods = [a for a in self.material.answers if a.good and is_sound(self.query, a.text)]
        if not goods:
            return
        if (preferred := self._preference(goods)) is not None:
            yield preferred
        made = 0
        for kind in kinds_to_try(self.material.gold is not None, self.rng):
            if made == self.most:
                return
            if self.quota.is_full(kind) or (drawn := self._draw(kind, goods)) is None:
                continue
            if (item := self._shaped(kind, drawn)) is not None:
                self.quota.take(kind, drawn.longer)
                made += 1
                yield item

    def _draw(self, kind: str, goods: Sequence[Answer]) -> Drawn | None:
        """A good and a bad response, the bad one longer or shorter as the quota wishes if it can
        be; None where the texts or the quota do not allow it."""
        found = None
        for _ in range(TRIES):
            good = self._one(goods)
            drawn = self._checked(kind, good.text, self._one(self._bases(good)))
            if drawn is None or self.quota.refuses(kind, drawn.longer):
                continue
            found = drawn
            if (drawn.longer >= 0) == self.quota.wants_longer(kind):
                break
        return found

    def _one(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def _bases(self, good: Answer) -> list[str]:
        """What the bad response may be made of: the good one, or one that is no better."""

        def no_better(one: Answer) -> bool:
            if self.material.gold is not None:
                return one.good
            if one.score is None or good.score is None:
                return not one.good
            return one.score <= good.score

        others = [one.text for one in self.material.answers if one != good and no_better(one)]
        return [good.text, *others]

    def _checked(self, kind: str, good: str, base: str) -> Drawn | None:
        """The good response and a bad one of this kind, where the checks agree that they are."""
        query, bad = self.query, None
        if kind in CONSTRAINTS:
            if (proposal := CONSTRAINTS[kind](good, base, self.rng)) is not None:
                constraint, good, bad = proposal
                query = replace(query, constraint=constraint)
        else:
            bad = self._spoilt(kind, query, base)
        if bad is None or not is_sound(query, good) or not has_fault(kind, query, bad):
            return None
        return Drawn(query, good, bad)

    def _spoilt(self, kind: str, query: Query, base: str) -> str | None:
        if kind == OFF_TOPIC:
            return topic.spoil(query, base, self.donors, self.rng)
        if kind == WRONG_SOLUTION:
            wrong = [one.text for one in self.material.answers if not one.good]
            return self._one(wrong) if wrong and query.gold is not None else None
        return SPOILING[kind](query, base, self.rng)

    def _shaped(self, kind: str, drawn: Drawn) -> Item | None:
        """The item in a shape that is drawn; a pair where four do not fit, None where two do not.

        An empty response never stands alone: rows of nothing else are refused.
        """
        shape = SHAPES[int(self.rng.choice(len(SHAPES), p=SHARES))]
        if shape == "single" and kind != "empty":
            good = bool(self.rng.random() < 0.5)
            text, name = (drawn.good, "good") if good else (drawn.bad, kind)
            item = Item(drawn.query, (text,), int(good), kind, (name,), shape, self.material)
            return item if item.characters <= self.longest else None
        bad = [(drawn.bad, kind)]
        if shape == "four":
            more = list(self._more(kind, drawn))
            item = self._several(kind, drawn.query, drawn.good, bad + more)
            if len(more) == 2 and item.characters <= self.longest:
                return item
        item = self._several(kind, drawn.query, drawn.good, bad)
        return item if item.characters <= self.longest else None

    def _more(self, kind: str, drawn: Drawn) -> Iterator[tuple[str, str]]:
        """Two more bad responses to the same query, each with a fault of another kind."""
        kinds = [
            other
            for other in (BESIDE if self.material.gold is None else BESIDE_PROBLEM)
            if other != kind
        ]
        bare, found = replace(drawn.query, constraint=None), 0
        for at in self.rng.permutation(len(kinds)):
            text = self._spoilt(kinds[at], bare, drawn.good)
            if found < 2 and text is not None and has_fault(kinds[at], bare, text):
                found += 1
                yield text, kinds[at]

    def _several(self, kind: str, query: Query, good: str, bad: Sequence[tuple[str, str]]) -> Item:
        """The good response among others, in an order that is drawn."""
        given = [(good, "good"), *bad]
        texts, kinds = zip(*(given[i] for i in self.rng.permutation(len(given))), strict=True)
        shape = "four" if len(texts) == 4 else "pair"
        return Item(query, texts, kinds.index("good"), kind, kinds, shape, self.material)

    def _preference(self, goods: Sequence[Answer]) -> Item | None:
        """A good answer beside one that raters liked far less, both as they were given."""
        for good in goods:
            for other in self.material.answers:
                scores = good.score, other.score
                if None in scores or not (good.entire and other.entire):
                    continue
                if (good.score or 0) - (other.score or 0) >= MARGIN:
                    item = self._several(
                        PREFERENCE, self.query, good.text, [(other.text, "less liked")]
                    )
                    return item if item.characters <= self.longest else None
        return None
