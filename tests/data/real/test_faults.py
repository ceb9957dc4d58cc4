"""Each fault: the good text passes the check that the spoilt one fails, and it says so truly."""

import re

import numpy as np
import pytest

from grm_jax.data.real import kinds
from grm_jax.data.real.equations import equations
from grm_jax.data.real.faults import ending, operands, order, topic
from grm_jax.data.real.finding import Query
from grm_jax.data.real.inspection import failed, inspect, score
from grm_jax.data.real.kinds import CHECKED_BY, CONSTRAINTS, SPOILING, has_fault, is_sound
from tests.data.real import texts

SEEDS = range(12)
PROSE = [(row["prompt"], row["chosen"]) for row in texts.PREFERENCES]
ANSWERED = {
    row["question"]: re.sub("<<.*?>>", "", row["answer"]).replace("####", "A:")
    for row in texts.PROBLEMS
}
GOLD = {texts.APPLES: "3", texts.TRAIN: "207", texts.COINS: "63"}
SHOWN = [(Query(prompt), good) for prompt, good in PROSE] + [
    (Query(prompt, gold=GOLD[prompt], working=good), good) for prompt, good in ANSWERED.items()
]


def spoilt(kind, query, good, seed):
    return SPOILING[kind](query, good, np.random.default_rng(seed))


@pytest.mark.parametrize(("query", "good"), SHOWN)
def test_good_texts_are_sound(query, good):
    assert is_sound(query, good), inspect(query, good)
    assert score(inspect(query, good)) == 9


@pytest.mark.parametrize("kind", SPOILING)
def test_a_spoilt_text_fails_the_check_that_the_good_one_passes(kind):
    made = 0
    for query, good in SHOWN:
        for seed in SEEDS:
            bad = spoilt(kind, query, good, seed)
            if bad is None or not has_fault(kind, query, bad):
                continue
            made += 1
            assert bad != good
            assert CHECKED_BY[kind] in failed(inspect(query, bad))
            assert CHECKED_BY[kind] not in failed(inspect(query, good))
            assert score(inspect(query, bad)) < 9
            assert spoilt(kind, query, good, seed) == bad
    assert made >= len(SEEDS)


@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_a_constraint_is_kept_by_the_good_text_and_broken_by_the_other(kind):
    made = 0
    for row in texts.PREFERENCES:
        for base in (row["chosen"], row["rejected"]):
            for seed in SEEDS:
                rng = np.random.default_rng(seed)
                if (proposal := CONSTRAINTS[kind](row["chosen"], base, rng)) is None:
                    continue
                constraint, good, bad = proposal
                made += 1
                assert constraint.check(good)[0], (constraint.instruction, good)
                assert not constraint.check(bad)[0], (constraint.instruction, bad)
                assert constraint.instruction
                assert all(constraint.check(text)[1] for text in (good, bad))
    assert made >= len(SEEDS)


QUOTED_FIRST = ("lowercase", "uppercase", "start_phrase", "end_phrase", "sentences", "bullets")


@pytest.mark.parametrize("kind", QUOTED_FIRST)
def test_a_wish_is_judged_after_the_text_is_quoted(kind):
    """Up to the quotation the words are the same whether the wish is kept or broken."""
    good, other = texts.PREFERENCES[0]["chosen"], texts.PREFERENCES[0]["rejected"]
    made = 0
    for seed in SEEDS:
        proposal = CONSTRAINTS[kind](good, other, np.random.default_rng(seed))
        if proposal is None:
            continue
        constraint, *both = proposal
        kept, broken = (constraint.check(text)[1] for text in both)
        for right, wrong in zip(kept, broken, strict=True):
            (before, *_), (same, *_) = right.split('"'), wrong.split('"')
            made += '"' in right and '"' in wrong
            assert before == same or '"' not in wrong  # there may be nothing to quote
            assert right != wrong
    assert made


def test_what_is_off_topic_answers_another_prompt_with_none_of_its_words():
    donors = [good for _, good in PROSE]
    for prompt, good in PROSE:
        query = Query(prompt)
        for seed in SEEDS:
            bad = topic.spoil(query, good, donors, np.random.default_rng(seed))
            if bad is not None:
                assert bad in donors
                assert bad != good
                assert has_fault(kinds.OFF_TOPIC, query, bad)
    assert (
        topic.spoil(Query(PROSE[0][0]), PROSE[0][1], [PROSE[0][1]], np.random.default_rng()) is None
    )


def test_a_cut_keeps_the_beginning_and_is_quoted_where_it_ends():
    query, good = SHOWN[0]
    for seed in SEEDS:
        bad = spoilt("cut", query, good, seed)
        assert good.startswith(bad)
        told = ending.check(query, bad).says[0]
        assert " ".join(bad.split()[-2:]) in told


def test_a_shuffle_keeps_every_sentence():
    for query, good in SHOWN:
        if (bad := spoilt("shuffled", query, good, 3)) is not None:
            assert sorted(bad.split()) == sorted(good.split())
    assert "1, 3 and 2" in order.check(SHOWN[2][0], texts.PLANTS_GOOD.replace("2. ", "9. ")
        .replace("3. ", "2. ").replace("9. ", "3. ")).says[0]  # fmt: skip


def test_a_misread_number_is_worked_with_to_the_end():
    query, good = SHOWN[-1]
    answers = set()
    for seed in SEEDS:
        bad = spoilt("misread", query, good, seed)
        if bad is None or not has_fault("misread", query, bad):
            continue  # a number that 40 leaves of 100, say
        assert all(one.holds for one in equations(bad)), bad
        assert failed(inspect(query, bad)) == {"operands", "answer"}
        answers.add(bad.rsplit(maxsplit=1)[-1])
    assert len(answers) > 3
    assert "63" not in answers


@pytest.mark.parametrize(
    ("text", "left", "holds"),
    [
        ("she has 16 - 3 - 4 = 9 eggs", ["16 - 3 - 4 = 9"], True),
        ("it is $9 * 2 = $18.", ["$9 * 2 = $18"], True),
        ("2 + 3 x 4 = 14 and 1,000/3 = 333.33", ["2 + 3 x 4 = 14", "1,000/3 = 333.33"], True),
        ("20% * 50 = 10", ["20% * 50 = 10"], True),
        ("48+24 = 73", ["48+24 = 73"], False),
        ("7 / 0 = 7", ["7 / 0 = 7"], False),
        # Parts of longer sums are no sums.
        ("3 * 6 = 9 * 2 = 18, (3 + 4) * 2 = 14, x + 2 = 5", ["9 * 2 = 18"], True),
    ],
)
def test_sums_are_read_and_worked_out(text, left, holds):
    found = equations(text)
    assert [one.text for one in found] in (left, [])
    assert found or "(" in text
    assert all(one.holds for one in found) == holds


def test_numbers_from_elsewhere_are_those_that_nothing_gives():
    query = Query(texts.COINS, gold="63")
    for text, ok in (
        ("Omar has 15 x 6 = 90 coins.", True),
        ("Omar has 15 x 6 = 90, and 90 - 40 = 50.", True),
        ("A friend gives him 77 coins. Omar has 15 + 77 = 92 coins.", True),
        ("Omar has 15 x 77 = 1155 coins.", False),
    ):
        assert operands.check(query, text).ok == ok, text


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_an_empty_response_has_one_fault_and_the_lowest_score(text):
    found = inspect(SHOWN[0][0], text)
    assert failed(found) == {"emptiness"}
    assert len(found) == 1
    assert score(found) == 1
