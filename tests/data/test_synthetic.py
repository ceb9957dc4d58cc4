"""The synthetic world: determinism, disjoint splits, verdicts that follow from the working."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.data.questions import Chain, Cups, Sum
from grm_jax.data.responses import LOWEST, WORDS, Nothing, draw_nothing
from grm_jax.data.synthetic import (
    ASKS,
    CRITERIA,
    MISREADINGS,
    Noise,
    World,
    demonstrate,
    make_item,
    split_of,
)
from grm_jax.text.degenerate import degeneracy
from grm_jax.text.parse import parse_choice, parse_judgment

indices = st.integers(0, 10**6)
rng = np.random.default_rng


def judged_again(item, text):
    """The scores that follow from a critique's own criteria and judgements, read as text."""
    weights = {name: int(w) for name, w in re.findall(r"(\w+) \((\d)\)", text.splitlines()[0])}
    words = {words[1]: name for name, words in WORDS.items()}
    lines = re.split(r"\[\d\] ", text.splitlines()[1])[1:]
    return [
        1
        if line.startswith("nothing to judge")
        else 2 + sum(weights[words[w]] for w in re.findall(r"\w+", line) if w in words)
        for line in lines
    ]


@given(indices)
def test_item_depends_on_its_own_number_alone(index):
    assert make_item(3, "train", index) == make_item(3, "train", index)
    rows = World(10, Noise(0.5, 0.5, 0.5), seed=3, start=index)
    assert rows[4] == World(3, Noise(0.5, 0.5, 0.5), seed=3, start=index + 4)[0]
    with pytest.raises(IndexError):
        rows[10]


def test_noise_changes_the_demonstrations_and_not_the_items():
    clean, noisy = (
        [world[i] for i in range(50)] for world in (World(50), World(50, Noise(0.5, 0.5, 0.5)))
    )
    assert [row.example for row in clean] == [row.example for row in noisy]
    assert [row.hinted for row in clean] == [row.hinted for row in noisy]
    assert [row.critique for row in clean] != [row.critique for row in noisy]


def test_lessons_hint_some_items_and_ask_of_half_the_single_ones_whether_they_are_right():
    lessons = [World(3000)[i] for i in range(3000)]
    single = [lesson for lesson in lessons if lesson.example.n == 1]
    assert {lesson.example.n for lesson in lessons if lesson.binary} == {1}
    assert np.mean([lesson.binary for lesson in single]) == pytest.approx(0.5, abs=0.12)
    assert np.mean([lesson.hinted for lesson in lessons]) == pytest.approx(0.1, abs=0.03)
    for lesson in lessons[:300]:
        low, high = (0, 1) if lesson.binary else (1, 10)
        parsed = parse_judgment(lesson.critique, lesson.example.n, low, high)
        assert parsed.scores is not None
        if lesson.binary:
            assert parsed.scores == (lesson.example.label,)
        assert not (lesson.hinted and lesson.example.n == 1 and not lesson.binary)


def test_hinted_lessons_go_wrong_a_quarter_as_often():
    noise = Noise(score=1.0)
    lessons = [World(4000, noise)[i] for i in range(4000)]

    def wrong(hinted):
        rows = [x for x in lessons if x.hinted == hinted and x.example.n > 1]
        found = [parse_judgment(x.critique, x.example.n).scores != x.example.scores for x in rows]
        return np.mean(found)

    # A swap of two equal scores is none.
    assert wrong(False) > 0.75
    assert wrong(True) == pytest.approx(wrong(False) / 4, abs=0.08)


def test_train_and_heldout_share_no_question():
    texts = {
        split: {make_item(seed, split, i).question.text for seed in (0, 1) for i in range(400)}
        for split in ("train", "heldout")
    }
    assert not texts["train"] & texts["heldout"]
    assert len(texts["heldout"]) > 400


def test_heldout_items_hardly_ever_repeat():
    # If there were only 5,000, about 25 pairs of 500 would be equal.
    items = [make_item(0, "heldout", i) for i in range(500)]
    assert len({item.example.id for item in items}) >= 499


def test_the_readmes_question():
    assert Sum(37, 48).text == "What is 37+48?"
    assert Sum(37, 48).work() == ("7+8=15 3+4+1=8", "85")
    assert Sum(37, 48).work(1) == ("7+8=14 3+4+1=8", "84")
    assert Sum(37, 48).work(2) == ("7+8=15 3+4=7", "75")


@given(st.integers(10, 79), st.integers(10, 79))
def test_sums_are_right_and_slips_wrong(a, b):
    question = Sum(a, b)
    assert question.work()[1] == str(a + b)
    assert str(a + b) not in {question.work(slip)[1] for slip in range(question.slips)}


def test_chain_and_cups_by_hand():
    chain = Chain(3, (("+", 5), ("*", 7), ("-", 9)))
    assert chain.work() == ("3 +5=8 *7=6 -9=7", "7")
    assert chain.work(2) == ("3 +5=8 *7=7 -9=8", "8")
    cups = Cups("A", ("AB", "CD", "BC"))
    assert cups.work() == ("A AB=B CD=B BC=C", "C")
    assert cups.work(1) == ("A AB=B CD=C BC=B", "B")


@given(indices)
def test_a_slip_anywhere_changes_the_answer_and_only_later_steps(index):
    question = make_item(0, "train", index).question
    steps, answer = question.work()
    for slip in range(question.slips):
        slipped, other = question.work(slip)
        assert other != answer
        if question.kind != "sum":
            step = slip // 2 if question.kind == "chain" else slip
            agree = [x == y for x, y in zip(steps.split(), slipped.split(), strict=True)]
            assert agree[: step + 1] == [True] * (step + 1)
            assert agree[step + 1 :] == [False] * len(agree[step + 1 :])


@given(indices)
def test_best_response_is_unique_and_labelled(index):
    item = make_item(0, "heldout", index)
    example, scores = item.example, item.scores()
    if len(scores) == 1:
        assert example.label == int(item.responses[0].answer == item.answer)
    else:
        assert scores.count(max(scores)) == 1
        assert example.label == scores.index(max(scores))
    assert example.scores == tuple(scores)
    assert split_of(item.question) == "heldout"


@given(indices)
def test_clean_demonstration_is_the_oracle_and_parses(index):
    item = make_item(0, "train", index)
    text = demonstrate(item, Noise(), rng(0))
    parsed = parse_judgment(text, len(item.responses))
    assert parsed.scores == tuple(item.scores())
    assert parsed.principles == ", ".join(f"{name} ({w})" for name, w in CRITERIA[item.ask])
    assert judged_again(item, text) == item.scores()


@given(indices)
def test_errors_before_the_scores_leave_a_critique_that_agrees_with_itself(index):
    item = make_item(0, "train", index)
    text = demonstrate(item, Noise(principle=1, step=1), rng(index))
    parsed = parse_judgment(text, len(item.responses))
    assert list(parsed.scores) == judged_again(item, text)
    answer = re.search(r"so (\w+)\.", text)[1]
    assert answer != item.answer
    assert parsed.principles != ", ".join(f"{name} ({w})" for name, w in CRITERIA[item.ask])


def test_noise_comes_at_its_rates():
    items = [make_item(1, "train", i) for i in range(1500)]
    items = [i for i in items if len(set(i.scores())) == len(i.scores()) > 1]
    easy = [i for i in items if i.ask == "Be brief."]
    hard = [i for i in items if i.ask == "Above all, be polite."]

    def rate(items, noise, is_wrong):
        return np.mean([is_wrong(i, demonstrate(i, noise, rng(k))) for k, i in enumerate(items)])

    def misread(item, text):
        return not text.startswith(f"Specific Criteria: {CRITERIA[item.ask][0][0]} (6)") or (
            CRITERIA[item.ask][1][0] not in text.splitlines()[0]
        )

    assert rate(easy, Noise(principle=0.2), misread) == pytest.approx(0.2, abs=0.1)
    assert rate(hard, Noise(principle=0.17), misread) > 0.5
    slipped = rate(items, Noise(step=0.3), lambda i, text: f"so {i.answer}." not in text)
    assert slipped == pytest.approx(0.3, abs=0.05)
    swapped = rate(
        items,
        Noise(score=0.3),
        lambda i, text: list(parse_judgment(text, len(i.responses)).scores) != i.scores(),
    )
    assert swapped == pytest.approx(0.3, abs=0.05)


def test_errors_make_verdicts_wrong_and_seldom_tied():
    items = [i for i in (make_item(2, "heldout", k) for k in range(800)) if len(i.responses) > 1]

    def outcomes(scores_of):
        wrong = tied = 0
        for item in items:
            scores, mistaken = item.scores(), scores_of(item)
            best, top = mistaken[scores.index(max(scores))], max(mistaken)
            wrong += best < top
            tied += best == top and mistaken.count(top) > 1
        return wrong / len(items), tied / len(items)

    misread = outcomes(lambda i: i.scores(CRITERIA[MISREADINGS[i.ask][0]]))
    slipped = outcomes(lambda i: i.scores(answer=i.question.work(0)[1]))
    assert misread[0] > 0.5
    assert misread[1] < 0.1
    assert slipped[0] > 0.5
    assert slipped[1] < 0.25


def nothings(count, split="train"):
    """The items of `count` that hold a response with nothing in it, and its place."""
    for index in range(count):
        item = make_item(0, split, index)
        for place, response in enumerate(item.responses):
            if isinstance(response, Nothing):
                yield item, place


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_one_item_in_ten_has_a_response_with_nothing_in_it_at_any_place(split):
    found = list(nothings(3000, split))
    assert len(found) == len({id(item) for item, _ in found})  # one in an item
    assert len(found) / 3000 == pytest.approx(0.1, abs=0.02)
    for n in (2, 3, 4):
        places = [place for item, place in found if len(item.responses) == n]
        assert np.bincount(places, minlength=n) / len(places) == pytest.approx(1 / n, abs=0.15)
    assert any(len(item.responses) == 1 for item, _ in found)
    whys = [degeneracy(item.responses[place].text) for item, place in found]
    for why, share in (("empty", 0.4), ("blank", 0.3), ("no visible text", 0.3)):
        assert whys.count(why) / len(whys) == pytest.approx(share, abs=0.1)


def test_nothing_scores_less_than_any_answer_whatever_is_asked_and_held():
    for item, place in nothings(1500):
        slips = [item.question.work(slip)[1] for slip in range(item.question.slips)]
        for criteria in CRITERIA.values():
            for answer in (item.answer, *slips):
                scores = item.scores(criteria, answer)
                assert scores.pop(place) == LOWEST == 1
                assert all(2 <= score <= 10 for score in scores)
        assert item.example.label != place or (len(item.responses), item.example.label) == (1, 0)


def test_errors_of_a_demonstration_never_reach_what_is_nothing():
    """Scores change places among the answers alone; of one response, nothing is never right."""
    noise, swapped = Noise(principle=1, step=1, score=1), 0
    for item, place in nothings(1500):
        n = len(item.responses)
        text = demonstrate(item, noise, rng(0))
        scores = parse_judgment(text, n).scores
        assert scores[place] == 1
        assert list(scores).count(1) == 1
        assert f"[{place + 1}] nothing to judge" in text
        swapped += list(scores) != judged_again(item, text)
        if n == 1:
            binary = demonstrate(item, noise, rng(0), binary=True)
            assert parse_judgment(binary, 1, 0, 1).scores == (0,)
        else:
            chosen = demonstrate(item, noise, rng(0), choose=True)
            assert parse_choice(chosen, n).index != place
    assert swapped > 20


def test_nothing_is_drawn_in_many_ways_and_never_shows():
    drawn = [draw_nothing(rng(seed)).text for seed in range(500)]
    assert all(degeneracy(text) for text in drawn)
    assert len(set(drawn)) > 100
    assert max(map(len, drawn)) == 4


def test_every_ask_kind_and_number_of_responses_occurs():
    items = [make_item(0, "train", i) for i in range(400)]
    assert {i.ask for i in items} == set(ASKS)
    assert {i.question.kind for i in items} == {"sum", "chain", "cups"}
    assert {len(i.responses) for i in items} == {1, 2, 3, 4}


def test_a_rate_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"noise.step is 1.5"):
        Noise(step=1.5)
