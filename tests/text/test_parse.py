"""The parser: tolerant around the last box, strict inside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.text.parse import parse_choice, parse_judgment

PLAIN = "Specific Criteria: accuracy (60%)\nAnalysis: 37+48=85. Response 1 is right.\nScores: "


@pytest.mark.parametrize(
    "ending",
    [
        r"\boxed{7, 4}",
        r"\boxed{7,4}",
        r"\boxed{ 7 ,  4 }",
        r"\boxed {7, 4}.",
        r"**\boxed{7, 4}**",
        r"$\boxed{7, 4}$ I am sure.",
        "$$\n\\boxed{7,\n4}\n$$",
        r"\boxed{1, 2} no, rather \boxed{7, 4}",
        r"\boxed{x} \boxed{+7, 04}",
    ],
)
def test_scores_come_from_the_last_box(ending):
    parsed = parse_judgment(PLAIN + ending, 2)
    assert (parsed.scores, parsed.reason) == ((7, 4), None)
    assert parsed.principles == "accuracy (60%)"
    assert parsed.critique == "37+48=85. Response 1 is right."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Scores: 7, 4", "no_box"),
        ("", "no_box"),
        ("boxed{7, 4}", "no_box"),
        (r"\boxed{7, 4} and then \boxed{7, 4", "open_box"),
        (r"\boxed{\text{7}, 4", "open_box"),
        (r"\boxed{7}", "wrong_count"),
        (r"\boxed{7, 4, 1}", "wrong_count"),
        (r"\boxed{}", "wrong_count"),
        (r"\boxed{7, 4} then \boxed{7}", "wrong_count"),
        (r"\boxed{7} \boxed{4}", "wrong_count"),
        (r"\boxed{7, }", "not_integer"),
        (r"\boxed{7.5, 4}", "not_integer"),
        (r"\boxed{7/10, 4}", "not_integer"),
        (r"\boxed{x, x}", "not_integer"),
        (r"\boxed{\text{7}, 4}", "not_integer"),
        (r"\boxed{７, 4}", "not_integer"),
        (r"\boxed{1_0, 4}", "not_integer"),
        (r"\boxed{0, 4}", "out_of_range"),
        (r"\boxed{11, 4}", "out_of_range"),
        (r"\boxed{-7, 4}", "out_of_range"),
        (r"\boxed{" + "9" * 5000 + ", 4}", "out_of_range"),
    ],
)
def test_every_refusal_has_its_reason(text, reason):
    parsed = parse_judgment(text, 2)
    assert (parsed.scores, parsed.reason) == (None, reason)


@given(st.text(alphabet="\\boxed{} 0123456789,.-\nScores:*"), st.integers(1, 3))
def test_scores_are_n_integers_in_range_or_there_is_a_reason(text, n):
    parsed = parse_judgment(text, n)
    assert (parsed.scores is None) != (parsed.reason is None)
    if parsed.scores is not None:
        assert len(parsed.scores) == n
        assert all(1 <= score <= 10 for score in parsed.scores)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=6), st.text())
def test_what_is_printed_last_is_read(scores, before):
    text = before + "\\boxed{" + ", ".join(map(str, scores)) + "}"
    assert parse_judgment(text, len(scores)).scores == tuple(scores)


def test_the_scale_can_be_zero_or_one():
    assert parse_judgment(r"\boxed{0}", 1, 0, 1).scores == (0,)
    assert parse_judgment(r"\boxed{2}", 1, 0, 1).reason == "out_of_range"


@pytest.mark.parametrize(
    ("text", "principles", "critique"),
    [
        ("**Specific Criteria:** a\n**Analysis:** b\n**Scores:** \\boxed{1}", "a", "b"),
        ("### Specific Criteria:\na\n### Analysis:\nb\n\n### Scores:\n\\boxed{1}", "a", "b"),
        ("specific criteria : a\nanalysis: b\nscore: \\boxed{1}", "a", "b"),
        ("Analysis: b\nScores: \\boxed{1}", "", "b"),
        ("b \\boxed{1}", "", "b"),
        ("Specific Criteria: a\nScores: \\boxed{1}", "", "a"),
        # A critique that quotes a forged result ends where the result itself begins.
        ("Specific Criteria: a\nAnalysis: it says\nScores: \\boxed{9}\nbut no\nScores: \\boxed{1}",
         "a", "it says\nScores: \\boxed{9}\nbut no"),
        ("Specific Criteria: a\nAnalysis: cut o", "a", "cut o"),
    ],
)  # fmt: skip
def test_principles_and_critique_stand_between_the_headers(text, principles, critique):
    parsed = parse_judgment(text, 1)
    assert (parsed.principles, parsed.critique) == (principles, critique)


def test_a_choice_is_an_index_from_zero():
    choice = parse_choice("Specific Criteria: a\nAnalysis: b\nChoice: \\boxed{2}", 3)
    assert (choice.index, choice.reason) == (1, None)
    assert (choice.principles, choice.critique) == ("a", "b")
    assert parse_choice(r"\boxed{4}", 3).reason == "out_of_range"
    assert parse_choice(r"\boxed{0}", 3).reason == "out_of_range"
    assert parse_choice(r"\boxed{1, 2}", 3).reason == "wrong_count"
    assert parse_choice("the first", 3).reason == "no_box"
