"""PPE: votes without ties, conflict pairs by question, and the exact best-of-k curve."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.evals.benchmarks import find
from grm_jax.evals.benchmarks.ppe import SETS, best_of
from grm_jax.text.messages import Example

VOTES, PAIRS, CURVE = find("ppe-preference"), find("ppe-correctness"), find("ppe-best-of-k")


def vote(winner, identity):
    row = {"prompt": "q", "response_1": "a", "response_2": "b", "question_id": identity}
    return row | {"winner": winner}


def question(identity="1", scores=(True, False, True, False), pairs=((0, 1), (3, 2))):
    responses = {f"response_{i}": f"answer {i}" for i in range(1, len(scores) + 1)}
    named = {"question_id": identity, "prompt": "q", "category": "x"} | responses
    return named | {"scores": list(scores), "sampled_conflict_pairs": [list(p) for p in pairs]}


def test_ties_are_dropped_and_still_count_as_rows(write_rows, table_of):
    winners = ("tie", "model_a", "tie (bothbad)", "model_b", "tie", "model_b")
    path = write_rows("x.jsonl", *(vote(w, str(n)) for n, w in enumerate(winners)))
    examples = list(VOTES.read(path))
    assert [(example.id, example.label) for example in examples] == [("1", 0), ("3", 1), ("5", 1)]
    table = table_of(VOTES, zip(examples, ((9, 1), (5, 5), None), strict=True))
    assert VOTES.cells(table) == pytest.approx({"PPE Preference": 50})
    assert VOTES.count(table) == {"PPE Preference": 6}
    assert VOTES.label({"PPE Preference": 16038}) == "PPE Preference"


def test_the_shared_votes(shared_data, table_of):
    items = list(VOTES.read(str(shared_data / "hub_schema")))
    examples = [item for item in items if isinstance(item, Example)]
    # Of one the winner is empty, and is judged like any other.
    assert len(examples) == len(items) == 894
    table = table_of(VOTES, [(example, (1, 0)) for example in examples])
    assert VOTES.label(VOTES.count(table)) == "PPE Preference (partial: 999 of 16038 rows)"
    share = sum(example.label == 0 for example in examples) / 894
    assert VOTES.cells(table)["PPE Preference"] == pytest.approx(100 * share)


def test_conflict_pairs_become_examples_of_one_question(write_rows):
    path = write_rows("PPE-GPQA-Best-of-K.jsonl", question(), question("2"))
    first, second, third, _ = PAIRS.read(path)
    assert first.responses == ("answer 1", "answer 2")
    assert second.responses == ("answer 4", "answer 3")
    assert (first.label, second.label) == (0, 1)
    assert [e.id for e in (first, second, third)] == ["GPQA/1:0", "GPQA/1:1", "GPQA/2:0"]
    assert first.meta["unit"] == second.meta["unit"] == "GPQA/1"
    assert first.meta["subset"] == "GPQA"


def test_correctness_is_the_mean_of_five_sets(write_rows, cells_of, table_of, tmp_path):
    for name in SETS:
        write_rows(
            f"lmarena-ai__PPE-{name}-Best-of-K/data/train-0.jsonl", question(), question("2")
        )
    examples = list(PAIRS.read(str(tmp_path)))
    assert len({example.id for example in examples}) == 20
    totals = {
        "MMLU-Pro": (9, 1),
        "MATH": (1, 9),
        "GPQA": (5, 5),
        "IFEval": None,
        "MBPP-Plus": (2, 1),
    }
    judged = [(example, totals[example.meta["subset"]]) for example in examples]
    cells = cells_of(PAIRS, judged)
    # The first pair of a question has its right answer first, the second last.
    assert [cells[name] for name in SETS] == [50, 50, 50, 0, 50]
    assert cells["PPE Correctness"] == 40
    found = PAIRS.count(table_of(PAIRS, judged))
    assert found == dict.fromkeys(SETS, 2)
    assert PAIRS.label(found) == "PPE Correctness (partial: 10 of 2555 rows)"


def test_the_shared_set_is_one_of_five(shared_data, table_of):
    examples = list(PAIRS.read(str(shared_data / "hub_schema")))
    assert (len(examples), {e.meta["subset"] for e in examples}) == (1050, {"MMLU-Pro"})
    table = table_of(PAIRS, [(e, (1, 0) if e.label == 0 else (0, 1)) for e in examples])
    assert PAIRS.cells(table)["MMLU-Pro"] == 100
    assert math.isnan(PAIRS.cells(table)["PPE Correctness"])
    assert "GPQA: 0 of 512" in PAIRS.missing(PAIRS.count(table))


def test_what_is_none_of_the_sets_says_so(write_rows, tmp_path):
    path = write_rows("x.jsonl", question())
    with pytest.raises(FileNotFoundError, match="not one of PPE's sets MMLU-Pro, MATH"):
        PAIRS.read(path)
    lacking = write_rows("PPE-MATH-Best-of-K/train.jsonl", {"prompt": "q", "response_1": "a"})
    with pytest.raises(ValueError, match="lacks the columns response_2, scores, sampled_conflict"):
        PAIRS.read(lacking)


def test_pairs_that_do_not_fit_are_told(write_rows):
    pairs = ((0, 9), (0, 2), (0, 1))
    path = write_rows("PPE-GPQA-Best-of-K.jsonl", question(pairs=pairs), question(scores=(1, 2, 3)))
    far, same, good, scores = PAIRS.read(path)
    assert good.label == 0
    assert [item.line for item in (far, same, scores)] == [1, 1, 2]
    assert "[0, 9]: two indices from 0 to 3" in far.reason
    assert "the same score" in same.reason
    assert "one of two values" in scores.reason


small = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=6)


@given(small, st.integers(1, 6))
def test_best_of_is_the_mean_over_all_choices_of_k(responses, k):
    judged = np.array([score for score, _ in responses], float)
    gold = np.array([right for _, right in responses], float)
    if k > len(gold):
        assert math.isnan(best_of(judged, gold, k))
        return

    def chosen(group):
        top = max(judged[list(group)])
        return np.mean([gold[i] for i in group if judged[i] == top])

    every = [chosen(group) for group in combinations(range(len(gold)), k)]
    assert best_of(judged, gold, k) == pytest.approx(np.mean(every))


def test_the_curve_by_hand(write_rows, cells_of):
    path = write_rows("PPE-GPQA-Best-of-K.jsonl", question())
    (example,) = CURVE.read(path)
    cells = cells_of(CURVE, [(example, (9, 8, 2, 1))])  # right, wrong, right, wrong
    assert cells["GPQA, k = 1"] == cells["GPQA, oracle, k = 1"] == pytest.approx(50)
    # Of six pairs, three have the first on top, two the second, one the third.
    assert cells["GPQA, k = 2"] == pytest.approx(100 * 4 / 6)
    assert cells["GPQA, oracle, k = 2"] == pytest.approx(100 * 5 / 6)
    assert cells["GPQA, k = 4"] == cells["GPQA"] == pytest.approx(100)
    assert math.isnan(cells["GPQA, k = 8"])
    assert math.isnan(cells["PPE best of K"])  # the other sets have no rows
    misled = cells_of(CURVE, [(example, (1, 9, 2, 3))])
    assert misled["GPQA"] == misled["GPQA, k = 4"] == 0
    assert misled["GPQA, oracle, k = 4"] == pytest.approx(100)
    unread = cells_of(CURVE, [(example, None)])
    assert unread["GPQA, k = 4"] == pytest.approx(50)
    assert unread["GPQA, oracle, k = 4"] == pytest.approx(100)


def test_the_shared_questions_have_sixteen_responses(shared_data, cells_of):
    folder = shared_data / "hub_schema" / "lmarena-ai__PPE-MMLU-Pro-Best-of-K"
    examples = list(CURVE.read(str(folder)))
    assert {example.n for example in examples} == {16}
    cells = cells_of(CURVE, [(example, example.scores) for example in examples])
    mean = np.mean([example.scores for example in examples])
    assert cells["MMLU-Pro, k = 1"] == pytest.approx(100 * mean)
    for k in (2, 4, 8, 16):
        assert cells[f"MMLU-Pro, k = {k}"] == pytest.approx(cells[f"MMLU-Pro, oracle, k = {k}"])
    assert cells["MMLU-Pro"] == pytest.approx(100)  # each has a right answer
