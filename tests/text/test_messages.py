"""Examples: what is accepted, what is refused in which words, and what a permutation keeps."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.text.messages import Example, Message, as_messages, fold_system, repair_surrogates


def test_a_string_prompt_is_one_user_turn():
    assert Example("q", ["a"]).prompt == (Message("user", "q"),)


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_message_lists_of_both_spellings_are_read(keys):
    turns = [("human", "q"), ("gpt", "a"), ("USER", "r")]
    prompt = [dict(zip(keys, turn, strict=True)) for turn in turns]
    expected = (Message("user", "q"), Message("assistant", "a"), Message("user", "r"))
    assert as_messages(prompt) == expected


def test_a_leading_system_turn_is_folded_into_the_first_user_turn():
    turns = [Message("system", "Be brief."), Message("user", "q"), Message("assistant", "a")]
    assert fold_system(turns) == (Message("user", "Be brief.\n\nq"), Message("assistant", "a"))
    with pytest.raises(ValueError, match="can only come first"):
        fold_system([Message("user", "q"), Message("system", "s")])


@pytest.mark.parametrize(
    ("system", "user"),
    [("Be brief.", "q"), (" Be brief. \n", "q"), ("a\n\nb", "c\n\nd"), ("Be brief.", "")],
)
def test_a_system_turn_is_kept_as_a_turn_of_its_own(system, user):
    turns = (Message("system", system), Message("user", user))
    last = (Message("assistant", "a"), Message("user", "r"))
    example = Example((*turns, *last), ["x", "y"])
    assert example.prompt == fold_system((*turns, *last))
    assert example.turns == (*turns, *last)
    for other in (example.permuted([1, 0]), replace(example, id="z")):
        assert other.turns == example.turns
    # It is the same question as without, and has the same random stream.
    folded = Example(example.prompt, ["x", "y"])
    assert (folded.digest, folded) == (example.digest, example)
    assert folded.turns == folded.prompt


def test_without_a_system_turn_the_turns_are_the_prompt():
    for prompt in ("q", [Message("system", " "), Message("user", "q")]):
        assert Example(prompt, ["a"]).turns == (Message("user", "q"),)
    example = Example([Message("system", "s"), Message("user", "q")], ["a"])
    assert replace(example, prompt="so").turns == (Message("user", "so"),)


def test_the_id_is_the_content_and_nothing_else():
    example = Example("q", ["a", "b"], label=0, meta={"line": 1})
    assert example.id == Example("q", ["a", "b"], label=1, meta={"line": 2}).id
    others = [
        Example("Q", ["a", "b"]),
        Example("q", ["b", "a"]),
        Example("q", ["ab"]),
        Example([{"role": "user", "content": "q"}], ["a", "b"], reference="r"),
        Example("q", ["a", "b"], principles="p"),
    ]
    assert len({example.id, *(other.id for other in others)}) == 6
    assert Example("q", ["a"], id="mine").id == "mine"


@given(st.permutations(range(4)), st.integers(0, 3))
def test_permuting_moves_label_and_scores_with_the_responses(order, label):
    example = Example("q", list("abcd"), label=label, scores=[1, 2, 3, 4])
    moved = example.permuted(order)
    assert moved.responses == tuple("abcd"[i] for i in order)
    assert moved.responses[moved.label] == example.responses[label]
    pairs = zip(moved.responses, moved.scores, strict=True)
    assert dict(pairs) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert moved.id == example.id
    assert moved.permuted([order.index(i) for i in range(4)]) == example


def test_the_label_of_a_single_response_is_no_index():
    assert Example("q", ["a"], label=1).permuted([0]).label == 1


@pytest.mark.parametrize("order", [[0], [0, 0], [1, 2], [0, 1, 2]])
def test_what_is_no_order_is_refused(order):
    with pytest.raises(ValueError, match="not an order of 2 responses"):
        Example("q", ["a", "b"]).permuted(order)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": []}, "no turns"),
        ({"prompt": 3}, "the prompt is a number"),
        ({"prompt": ["q"]}, "turn 1 of the prompt is text"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "role 'tool'"),
        ({"prompt": [{"role": "user", "content": None}]}, "turn 1 is null"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "must be the user's"),
        ({"responses": "85"}, "responses is text: give a list"),
        ({"responses": []}, "at least one response"),
        ({"responses": ["a", 85]}, r"response 2 is a number \(85\)"),
        ({"label": 2}, "label 2 is out of range.* 0 to 1"),
        ({"label": -1}, "out of range"),
        ({"label": True}, "give an integer"),
        ({"label": 0.5}, "give an integer"),
        ({"responses": ["a"], "label": 2}, "must be 1 .right. or 0 .wrong."),
        ({"scores": [1]}, "must be 2 numbers, one per response, but is 1"),
        ({"scores": [1, float("nan")]}, "not a finite number"),
        ({"scores": [1, "2"]}, "not a finite number"),
        ({"strength": 4}, "none of 0"),
        ({"reference": 7}, "reference is a number"),
        ({"id": 7}, "the id 7 is a number"),
    ],
)
def test_refusals_say_what_is_wrong(arguments, words):
    with pytest.raises(ValueError, match=words):
        Example(**{"prompt": "q", "responses": ["a", "b"]} | arguments)


def test_surrogates_are_repaired_wherever_text_comes_in():
    bad, good = "x\ud800y", "x\ufffdy"
    example = Example(bad, [bad], id=bad, reference=bad, principles=bad)
    texts = [example.prompt[0].content, *example.responses]
    assert {*texts, example.id, example.reference, example.principles} == {good}
    assert repair_surrogates("\ud83d\ude00") == "\U0001f600"


@given(st.text())
def test_proper_text_is_not_touched(text):
    assert repair_surrogates(text) == text


def test_replace_checks_again():
    example = Example("q", ["a", "b"], label=0)
    assert replace(example, label=None).label is None
    with pytest.raises(ValueError, match="out of range"):
        replace(example, label=5)
    assert len({example, replace(example, meta={"a": 1})}) == 1
    assert all(a == b for a, b in itertools.pairwise([example, replace(example)]))
