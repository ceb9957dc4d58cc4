"""Problems of every form, and the pairs that are made of their answers."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.data.math_pairs import pairs_of, to_problem

MATH = {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{2}$."}
RIGHT, ALSO_RIGHT = r"\boxed{2}", r"It is \boxed{2.0}"
WRONG, ALSO_WRONG, NONE = r"\boxed{3}", "A: 4", "two, I think"


@pytest.mark.parametrize(
    ("row", "gold", "answers"),
    [
        (MATH, "2", ()),
        ({"question": "1+1?", "answer": "1+1=2\n#### 2"}, "2", ()),
        ({"problem": "1+1?", "solution": r"\boxed{2}", "answer": "2"}, "2", ()),
        ({"problem": "1+1?", "answer": 2}, "2", ()),
        ({"question": "1+1?", "gt": "2", "solution": "see above", "code": [RIGHT]}, "2", (RIGHT,)),
        (MATH | {"responses": [RIGHT, WRONG]}, "2", (RIGHT, WRONG)),
        (
            {"question": "1+1?", "ground_truth": "A: 2", "6b": {"solution": "A: 3"}},
            "2",
            ("A: 3",),
        ),
    ],
)
def test_problems_are_read_in_the_columns_of_public_sets(row, gold, answers):
    problem = to_problem(row)
    assert (problem.text, problem.gold, problem.answers) == ("1+1?", gold, answers)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"solution": r"\boxed{2}"}, "no problem: one of problem, question"),
        ({"problem": "1+1?"}, "no gold answer"),
        ({"problem": "1+1?", "solution": "It is two."}, "no gold answer"),
        ({"problem": "1+1?", "solution": r"It is \boxed{2"}, "no gold answer"),
        ([1], "not an object"),
    ],
)
def test_a_row_that_is_no_problem_is_told_why(row, said):
    with pytest.raises(ValueError, match=said):
        to_problem(row)


def pairs(answers, most=9, seed=0):
    counts: Counter[str] = Counter()
    return list(pairs_of(to_problem(MATH), answers, most, seed, counts)), counts


def test_a_pair_is_a_right_answer_and_a_wrong_one_and_no_answer_is_in_two():
    answers = [RIGHT, WRONG, NONE, ALSO_RIGHT, ALSO_WRONG, RIGHT]
    found, counts = pairs(answers)
    assert {pair["chosen"] for pair in found} == {RIGHT, ALSO_RIGHT}
    assert {pair["rejected"] for pair in found} == {WRONG, ALSO_WRONG}
    assert len({pair["id"] for pair in found}) == len(found) == 2
    assert counts == {"right": 2, "wrong": 2, "no final answer": 1, "the same text again": 1}
    assert pairs(answers, most=1)[0] == found[:1]


@pytest.mark.parametrize("answers", [[], [RIGHT, ALSO_RIGHT], [WRONG], [RIGHT, NONE]])
def test_without_a_right_and_a_wrong_answer_there_is_no_pair(answers):
    assert pairs(answers)[0] == []


def test_which_answers_are_paired_is_drawn_by_seed_and_problem():
    answers = [RIGHT, *(f"A: {number}" for number in range(3, 40))]
    first = {pairs(answers, seed=seed)[0][0]["rejected"] for seed in range(8)}
    assert len(first) > 4
    assert pairs(answers, seed=3) == pairs(answers, seed=3)
    other = replace(to_problem(MATH), id="0" * 16)
    drawn = [next(pairs_of(other, answers, 1, seed, Counter()))["rejected"] for seed in range(8)]
    assert drawn != [pairs(answers, seed=seed)[0][0]["rejected"] for seed in range(8)]


def test_pairs_are_labelled_items(tmp_path):
    found, _ = pairs([WRONG, RIGHT])
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in found))
    (item,) = load_items((ItemsConfig(str(path)),), 0)
    assert (item.prompt[-1].content, item.responses) == ("1+1?", (RIGHT, WRONG))
    assert (item.label, item.reference) == (0, MATH["solution"])
    assert item.meta["type"] == "Algebra"
