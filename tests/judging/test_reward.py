"""Equations 10 and 11: what is a right judgment, and what it earns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.judging.asking import read_judgment
from grm_jax.judging.reward import REWARDS, is_correct, rule_reward
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates


@pytest.mark.parametrize(
    ("scores", "label", "right"),
    [
        ((9, 4), 0, True),
        ((9, 4), 1, False),
        ((3, 7, 5, 6), 1, True),
        ((3, 7, 5, 8), 1, False),  # beaten by the last one only
        ((8, 7, 5, 6), 1, False),  # beaten by the first one only
        ((1, 2), 1, True),  # highest is enough; a low score is no matter
        ((-2, -3), 0, True),
        ((0.25, 0.5), 1, True),
    ],
)
def test_right_is_the_highest_score_on_the_label(
    scores: tuple[float, ...], label: int, right: bool
) -> None:
    assert is_correct(scores, label) is right
    assert rule_reward(scores, label) == (1.0 if right else -1.0)


@pytest.mark.parametrize("scores", [(5, 5), (5, 5, 1), (5, 1, 5), (5, 5, 5)])
def test_a_tie_for_the_highest_is_wrong(scores: tuple[int, ...]) -> None:
    assert [rule_reward(scores, label) for label in range(len(scores))] == [-1.0] * len(scores)


def test_a_tie_below_the_highest_is_no_matter() -> None:
    assert rule_reward((4, 9, 4), 1) == 1.0


@pytest.mark.parametrize("label", [0, 1, 3])
def test_no_scores_are_wrong(label: int) -> None:
    assert not is_correct(None, label)
    assert rule_reward(None, label) == -1.0


@pytest.mark.parametrize("score", [0, 1])
@pytest.mark.parametrize("label", [0, 1])
def test_a_single_score_must_equal_its_label(score: int, label: int) -> None:
    assert rule_reward((score,), label) == (1.0 if score == label else -1.0)


SCORES = st.lists(st.integers(1, 4), min_size=2, max_size=6)


@given(SCORES, st.data())
def test_permuting_scores_and_label_together_changes_nothing(
    scores: list[int], data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, len(scores) - 1))
    order = data.draw(st.permutations(range(len(scores))))
    moved = [scores[i] for i in order]
    assert rule_reward(moved, order.index(label)) == rule_reward(scores, label)


@given(SCORES)
def test_at_most_one_label_is_right(scores: list[int]) -> None:
    right = [label for label in range(len(scores)) if is_correct(scores, label)]
    top = [i for i, score in enumerate(scores) if score == max(scores)]
    assert right == (top if len(top) == 1 else [])


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_of_the_table_is_one_number_per_judgment(name: str) -> None:
    template, example = load_templates().grm, Example("q", ["a", "b"], label=1)
    texts = ("Scores: \\boxed{2, 9}", "Scores: \\boxed{9, 2}", "nothing")
    judgments = [
        read_judgment(text, template, sample=i, order=(0, 1), tokens=9)
        for i, text in enumerate(texts)
    ]
    rewards = REWARDS[name](example, judgments)
    assert [type(reward) for reward in rewards] == [float] * 3
    if name == "rule":
        assert list(rewards) == [1.0, -1.0, -1.0]
