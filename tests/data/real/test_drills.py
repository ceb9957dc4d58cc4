"""Drills: every wish is kept by some sentences and broken by others, and so is a topic."""

from collections import defaultdict
from itertools import chain

import numpy as np
import pytest

from grm_jax.data.real.drills import RESPONSES, WISHES, drills, short_sentences
from grm_jax.data.real.faults import topic
from grm_jax.data.real.inspection import failed, inspect
from tests.data.real import texts

OWN = short_sentences([texts.TEA_GOOD])
OTHERS = [*short_sentences([texts.CROSS_GOOD, texts.BRIDGE_GOOD, texts.BREAD_GOOD]), OWN[0]]


@pytest.fixture(scope="module")
def made():
    rngs = map(np.random.default_rng, range(150))
    return list(chain.from_iterable(drills(texts.TEA, OWN, OTHERS, rng) for rng in rngs))


def test_of_each_wish_there_are_sentences_that_keep_it_and_that_break_it(made):
    kept = defaultdict(list)
    for query, responses in made:
        if (wish := query.constraint) is not None:
            assert query.text == wish.instruction
            kept[wish.name] += [wish.check(response)[0] for response in responses]
    assert set(kept) == set(WISHES)
    for name, found in kept.items():
        assert len(found) > 50, name
        assert 0.15 < np.mean(found) < 0.85, name


def test_of_a_query_there_are_sentences_that_take_it_up_and_that_do_not(made):
    found = [
        topic.check(query, response)
        for query, responses in made
        if query.constraint is None
        for response in responses
    ]
    told = [one.ok for one in found if one is not None]
    assert 0.3 < np.mean(told) < 0.7


def test_sentences_are_different_and_some_break_off_or_come_twice(made):
    wrong = []
    for query, responses in made:
        assert 1 <= len(responses) <= RESPONSES
        assert len(set(responses)) == len(responses)
        wrong += [failed(inspect(query, response)) for response in responses]
    for check, share in (("ending", 0.15), ("repetition", 0.1)):
        assert share < np.mean([check in one for one in wrong]) < 2 * share


def test_there_is_none_without_sentences_of_other_answers():
    assert not list(drills(texts.TEA, OWN[:1], [], np.random.default_rng(0)))
