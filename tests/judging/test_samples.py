"""Judgments on disk: what is read is what was written, and a saved file can stand for a judge."""

import json
from dataclasses import replace

import pytest

from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.samples import SavedSamples, from_json, read_samples, to_json
from grm_jax.text.messages import Example, Message

EXAMPLE = Example(
    [Message("user", "Wie heißt du?"), Message("assistant", "\ud800?"), Message("user", "Und?")],
    ["a", "b\u2028c"],
    "x",
    label=1,
    strength=2,
    meta={"set": "s"},
)


def judgments(count: int) -> tuple[Judgment, ...]:
    return tuple(
        Judgment(i, (1, 0), "p", "c", (3, 9) if i else None, None if i else "no_box", "t", 7, -1.5)
        for i in range(count)
    )


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_is_read_is_what_was_written() -> None:
    sampled = Sampled(EXAMPLE, judgments(3))
    assert from_json(json.loads(json.dumps(to_json(sampled)))) == sampled
    sized = from_json(to_json(Sampled(EXAMPLE, judgments(3), engine={"slots": 8})))
    assert (sized.engine, from_json(to_json(sampled)).engine) == ({"slots": 8}, None)
    bare = Sampled(Example("q", ["r"], "y"), ())
    assert from_json(to_json(bare)) == bare
    assert set(to_json(bare)) == {"id", "digest", "prompt", "responses", "judgments"}


def test_refusals_are_read_as_such(tmp_path) -> None:
    refusal = Refusal("y", "it is too long.")
    path = write(tmp_path / "s.jsonl", to_json(Sampled(EXAMPLE, judgments(1))), refusal.to_json())
    assert list(read_samples(path)) == [Sampled(EXAMPLE, judgments(1)), refusal]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{torn", "Expecting property name"),
        ('{"id": "x"}', "no line of sampled judgments"),
        ('{"id": "x", "prompt": "q", "responses": ["a"], "judgments": [{"sample": 0}]}', "order"),
    ],
)
def test_a_line_that_is_none_is_told_by_its_number(tmp_path, line: str, said: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(to_json(Sampled(EXAMPLE, ()))) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=rf"s\.jsonl:2: .*{said}"):
        list(read_samples(path))


def test_a_file_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        SavedSamples(tmp_path / "nowhere.jsonl")


def test_a_saved_file_stands_for_a_judge(tmp_path) -> None:
    path = write(tmp_path / "s.jsonl", to_json(Sampled(EXAMPLE, judgments(3))))
    saved = SavedSamples(path)
    relabelled = Example(EXAMPLE.prompt, EXAMPLE.responses, "x", label=0)
    (found,) = saved.sample_all([relabelled], 2)
    assert found == Sampled(relabelled, judgments(2))  # the asker's label holds, not the file's
    (same,) = saved.sample_all([replace(EXAMPLE, id="another")], 1)
    assert isinstance(same, Sampled)
    assert same.judgments == judgments(1)  # it is found by what was judged
    other = Example(EXAMPLE.prompt, EXAMPLE.responses, "x", reference="a")
    unknown = Example("q", ["a", "b"], "y")
    reasons = [
        row.error if isinstance(row, Refusal) else ""
        for row in [
            *saved.sample_all([EXAMPLE], 4),
            *saved.sample_all([other, unknown], 1),
        ]
    ]
    assert "has 3 of its 4 judgments" in reasons[0]
    assert "judges something else under this id" in reasons[1]
    assert "has 0 of its 1 judgments" in reasons[2]
