r"""Final answers and the rule that compares them: by hand, and against other people's verdicts."""

import json

import pytest

from grm_jax.data import math_answers
from grm_jax.data.math_answers import final_answer, same_answer


def rows(path):
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{1}, no: \boxed{ 2 } it is.", "2"),
        (r"The set is $\boxed{\{1, 2\}}$", r"\{1, 2\}"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right."),
        (r"\fbox{3}", "3"),
        (r"$\boxed 5$ it is", "5"),
        (r"\boxed{1} and \boxed{2", None),
        (r"\boxed{}", None),
        ("48 / 2 = 24\n#### 24", "24"),
        ("48 / 2 = 24\nA: 24.\n", "24"),
        ("The answer is 7.", "7"),
        ("#### Step 1\nhalf of 48", None),
        ("half of 48 is 24", None),
        ("", None),
    ],
)
def test_a_final_answer_is_what_the_text_declares(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        (r"\frac{1}{2}", "0.5", True),
        (r"\dfrac12", r"\frac{2}{4}", True),
        ("1,080", r"1{,}080", True),
        ("18", r"\$18.00", True),
        (r"(3, \frac{\pi}{2})", r"\left( 3, \dfrac{\pi}{2} \right)", True),
        (r"\{1, 2\}", r"\{2, 1\}", True),
        (r"\text{Tuesday}", "Tuesday", True),
        ("5", "x = 5", True),
        ("2x + 1", "1 + 2x", True),
        ("18", "26", False),
        (r"\frac{1}{2}", r"\frac{1}{3}", False),
        ("(1, 2)", "(2, 1)", False),
        (r"\text{Tuesday}", r"\text{Monday}", False),
    ],
)
def test_the_same_answer_is_known_in_another_spelling(gold, answer, same):
    assert same_answer(gold, answer) is same


def test_what_cannot_be_compared_in_time_is_neither_right_nor_wrong(monkeypatch):
    monkeypatch.setattr(math_answers, "SECONDS", 1)
    assert same_answer(r"9^{9^{9^{9}}}", "3") is None


def test_the_rule_agrees_with_the_verdicts_on_qwens_answers_to_math(shared_data):
    """800 answers; their harness takes 10{,}000 and 10000 for two numbers."""
    others = []
    for row in rows(shared_data / "math" / "qwen_math_cot_100_rm_maj_example.jsonl"):
        for text, right in zip(row["code"], row["score"], strict=True):
            answer = final_answer(text)
            if (answer is not None and same_answer(row["gt"], answer)) != right:
                others.append((row["gt"], answer))
    assert others == [("10{,}000", "10000")]


def test_the_rule_agrees_with_the_verdicts_on_answers_to_gsm8k(shared_data):
    counts = {True: 0, False: 0}
    for row in rows(shared_data / "gsm8k" / "example_model_solutions.jsonl")[:200]:
        gold = final_answer(row["ground_truth"])
        assert gold is not None
        for told in row.values():
            if isinstance(told, dict):
                answer = final_answer(told["solution"])
                same = answer is not None and same_answer(gold, answer)
                assert same == told["is_correct"], (gold, answer)
                counts[same] += 1
    assert min(counts.values()) > 200


def test_every_problem_of_math_and_gsm8k_has_a_gold_answer(shared_data):
    for row in rows(shared_data / "math" / "test.jsonl"):
        assert final_answer(row["solution"])
    for row in rows(shared_data / "gsm8k" / "test.jsonl"):
        assert final_answer(row["answer"])
