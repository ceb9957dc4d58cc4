"""Which completions are judged together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grm_jax.judging.judgment import Refusal
from grm_jax.rewards.rows import Row, grouped
from grm_jax.text.messages import Example


@given(st.lists(st.integers(0, 2), max_size=20), st.integers(1, 6))
def test_every_row_is_in_one_group_of_its_prompt(prompts: list[int], size: int) -> None:
    rows = {10 + i: Row(f"prompt {p}", f"answer {i}") for i, p in enumerate(prompts)}
    groups = grouped(rows, size)
    assert sorted(number for group in groups for number in group.rows) == list(rows)
    sizes: dict[str, list[int]] = {}
    for group in groups:
        assert isinstance(group.example, Example)
        assert list(group.rows) == sorted(group.rows)
        assert group.example.responses == tuple(rows[i].completion for i in group.rows)
        prompt = group.example.prompt[0].content
        assert {rows[i].prompt for i in group.rows} == {prompt}
        sizes.setdefault(prompt, []).append(len(group.rows))
    for prompt, counts in sizes.items():
        assert max(counts) <= size
        assert max(counts) - min(counts) <= 1, "they are divided evenly"
        assert len(counts) == -(-sum(counts) // size), "and into as few groups as can be"
        assert sum(counts) == sum(row.prompt == prompt for row in rows.values())


def test_the_same_prompt_in_two_forms_is_one() -> None:
    turns = [{"role": "user", "content": "hi"}]
    rows = {0: Row("hi", "a"), 1: Row(turns, [{"role": "assistant", "content": "b"}])}
    (group,) = grouped(rows, 4)
    assert isinstance(group.example, Example)
    assert group.example.responses == ("a", "b")


def test_other_references_and_principles_are_other_groups() -> None:
    rows = {
        0: Row("hi", "a", reference="x"),
        1: Row("hi", "b", reference="y"),
        2: Row("hi", "c", reference="x"),
        3: Row("hi", "d", reference="x", principles="be kind"),
        4: Row("hi", "e", reference=["x"]),
    }
    assert [group.rows for group in grouped(rows, 4)] == [(0, 2, 4), (1,), (3,)]


def test_what_is_no_row_is_refused_alone() -> None:
    rows = {
        0: Row("hi", "a"),
        1: Row([{"role": "user", "content": [{"type": "image"}]}], "b"),
        2: Row("hi", None),
        3: Row(" ", "c"),
        4: Row("hi", "d"),
    }
    found = {group.rows: group.example for group in grouped(rows, 4)}
    assert isinstance(found.pop((0, 4)), Example)
    said = {numbers: refusal.error for numbers, refusal in found.items() if
            isinstance(refusal, Refusal)}  # fmt: skip
    assert "only text is read" in said[1,]
    assert "a completion is null" in said[2,]
    assert "the prompt is empty" in said[3,]
