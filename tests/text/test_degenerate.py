"""Which responses hold nothing to judge, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.text.degenerate import degeneracy, degenerate


@pytest.mark.parametrize(
    ("why", "texts"),
    [
        ("empty", [""]),
        ("blank", [" ", "   ", "\n", "\r\n\t", "\u00a0\u3000", "\u2028"]),
        (
            "no visible text",
            [
                "\u200b",
                " \u200b\n",
                "\0",
                "\x1b\x7f",
                "\ufeff",
                "\u3164",
                "\u2800",
                "\ufe0f",
                "\u00ad",
            ],
        ),
        (None, ["0", ".", "\u200b0", " -\n", "\u00e9", "\u4e00", "\U0001f642", "\ufffd", "\x1b["]),
    ],
)
def test_why_there_is_nothing_to_judge(why: str | None, texts: list[str]) -> None:
    assert [degeneracy(text) for text in texts] == [why] * len(texts)


SHOWN = st.characters(
    categories=("L", "N", "P", "S"), exclude_characters="\u115f\u1160\u3164\uffa0\u2800"
)


@given(st.text(), st.text(), SHOWN)
def test_a_letter_a_digit_or_a_mark_is_something_wherever_it_stands(before, after, char) -> None:
    assert degeneracy(before + char + after) is None


def test_the_degenerate_ones_of_several_are_named_by_index() -> None:
    found = degenerate(["85", "", "\u200b", "  ", "84"])
    assert found == {1: "empty", 2: "no visible text", 3: "blank"}
    assert degenerate(["85"]) == {}
