"""Sampling to a file: continued after a kill, to the same bytes."""

import json
from dataclasses import replace
from datetime import date
from typing import cast

import pytest

from grm_jax.judging.collect import Rated, collect
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.meta import MetaRM
from grm_jax.text.messages import Example

EXAMPLES = [Example(f"q{i}", ["a", "b"], str(i), label=0) for i in range(6)]


class Source:
    """Judges in an order of its own, refuses number 3, and dies after so many."""

    def __init__(self, dies_after=None, passing=False):
        self.asked = []
        self.dies_after, self.passing = dies_after, passing

    def sample_all(self, examples, k):
        examples = list(examples)
        for done, example in enumerate(reversed(examples)):
            if done == self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(example.id)
            if example.id == "3":
                yield Refusal("3", "it is too long.", self.passing)
            else:
                told = f"{example.prompt[0].content} {example.responses}"
                judgment = Judgment(0, (0, 1), "", "", (2, 1), None, told, 1, -1.0)
                yield Sampled(example, (judgment,) * k)


def stop(path, dies_after):
    try:
        collect(Source(dies_after), EXAMPLES, 2, path, name="test")
    except KeyboardInterrupt:
        return
    raise AssertionError("it should have been stopped")


def test_every_example_has_its_line_in_their_order(tmp_path):
    path = tmp_path / "new" / "samples.jsonl"
    results = collect(Source(), EXAMPLES, 2, path, name="test")
    assert [row.example.id for row in results] == ["0", "1", "2", "4", "5"]
    assert all(len(row.judgments) == 2 for row in results)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["0", "1", "2", "3", "4", "5"]
    refused = {"id": "3", "error": "it is too long.", "digest": EXAMPLES[3].digest}
    assert lines[3] == refused
    assert not list(path.parent.glob("*.part"))


def test_stopped_anywhere_it_ends_with_the_same_bytes(tmp_path):
    whole = tmp_path / "whole.jsonl"
    collect(Source(), EXAMPLES, 2, whole, name="test")
    path = tmp_path / "parts.jsonl"
    stop(path, 2)
    part = path.with_name(path.name + ".part")
    with part.open("a") as file:
        file.write('{"id": "2", "pro')  # what a kill leaves of a line
    stop(path, 1)
    last = Source()
    collect(last, EXAMPLES, 2, path, name="test")
    assert last.asked == ["2", "1", "0"]  # 5, 4 and 3 were there
    assert path.read_bytes() == whole.read_bytes()


def test_a_finished_file_is_read_and_nothing_is_asked(tmp_path):
    path = tmp_path / "samples.jsonl"
    first = collect(Source(), EXAMPLES, 2, path, name="test")
    idle = Source()
    assert collect(idle, EXAMPLES, 2, path, name="test") == first
    assert idle.asked == []


def test_a_source_with_a_meta_rm_gives_rated_judgments(tmp_path):
    class Meta:
        def rate_all(self, sampled):
            for row in sampled:
                if isinstance(row, Sampled):
                    rated = tuple(replace(j, meta=1.5) for j in row.judgments)
                    yield Sampled(row.example, rated)
                else:
                    yield row

    results = collect(
        Rated(Source(), cast(MetaRM, Meta())), EXAMPLES, 1, tmp_path / "samples.jsonl", name="test"
    )
    assert [j.meta for row in results for j in row.judgments] == [1.5] * 5


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def again(path, examples, k=2, source=None):
    """What is asked when the same file is wanted of these rows, and its lines."""
    source = source or Source()
    collect(source, examples, k, path, name="test")
    return source.asked, lines_of(path)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "samples.jsonl"
    collect(Source(), EXAMPLES, 2, path, name="test")
    return path


def test_mended_labels_are_in_the_file_and_nothing_is_asked(path):
    before = lines_of(path)
    mended = [replace(e, label=1, meta={"note": "mended"}) for e in EXAMPLES]
    asked, lines = again(path, mended)
    assert asked == []
    judged = [line for line in lines if "judgments" in line]
    assert [(line["label"], line["meta"]) for line in judged] == [(1, {"note": "mended"})] * 5
    was = [line["judgments"] for line in before if "judgments" in line]
    assert [line["judgments"] for line in judged] == was


@pytest.mark.parametrize(
    "changed",
    [
        Example("q2", ["b", "a"], "2", label=0),
        Example("q2!", ["a", "b"], "2", label=0),
        Example("q2", ["a", "b"], "2", label=0, reference="a"),
    ],
    ids=["swapped", "prompt", "reference"],
)
def test_changed_content_under_the_same_id_is_judged_anew_and_nothing_else(changed, path):
    rows = [changed if e.id == "2" else e for e in EXAMPLES]
    asked, lines = again(path, rows)
    assert asked == ["2"]
    assert [line["id"] for line in lines] == ["0", "1", "2", "3", "4", "5"]
    assert lines[2]["responses"] == list(changed.responses)
    assert str(changed.responses) in lines[2]["judgments"][0]["text"]
    assert again(path, rows) == ([], lines)


def test_another_order_or_other_ids_need_no_judging(path):
    rows = [replace(e, id=f"new-{e.id}") for e in reversed(EXAMPLES)]
    asked, lines = again(path, rows)
    assert asked == []
    assert [line["id"] for line in lines] == [e.id for e in rows]
    assert [line["digest"] for line in lines] == [e.digest for e in rows]


def test_rows_of_one_content_share_a_result_and_each_has_its_line(tmp_path):
    twins = [replace(EXAMPLES[0], id=name, label=i) for i, name in enumerate(("a", "b"))]
    rows = [twins[0], EXAMPLES[1], twins[1]]
    path = tmp_path / "samples.jsonl"
    asked, lines = again(path, rows)
    assert sorted(asked) == ["1", "a"]
    assert [(line["id"], line["label"]) for line in lines] == [("a", 0), ("1", 0), ("b", 1)]
    assert lines[0]["judgments"] == lines[2]["judgments"]
    before = path.read_bytes()
    assert again(path, rows)[0] == []
    assert path.read_bytes() == before


def test_what_failed_for_a_passing_reason_is_asked_again_and_else_not(path, tmp_path):
    assert again(path, EXAMPLES)[0] == []  # number 3 is too long, and stays so
    passing = tmp_path / "passing.jsonl"
    collect(Source(passing=True), EXAMPLES, 2, passing, name="test")
    assert lines_of(passing)[3]["passing"]
    for source in (Source(passing=True), Source(), Source()):
        asked, lines = again(passing, EXAMPLES, source=source)
        assert [line["id"] for line in lines] == ["0", "1", "2", "3", "4", "5"]
    assert asked == []
    assert passing.read_bytes() == path.read_bytes()


def test_judgments_of_rows_that_are_gone_are_kept_aside_and_used_again(path):
    before = path.read_bytes()
    asked, lines = again(path, EXAMPLES[:2])
    assert asked == []
    assert [line["id"] for line in lines] == ["0", "1"]
    assert [line["id"] for line in lines_of(path.with_name("samples.jsonl.old"))] == [*"2345"]
    assert again(path, EXAMPLES)[0] == []
    assert path.read_bytes() == before


def test_another_number_of_judgments_is_another_result(path):
    asked, lines = again(path, EXAMPLES, k=3)
    assert sorted(asked) == [*"01245"]
    assert {len(line["judgments"]) for line in lines if "judgments" in line} == {3}


def test_a_file_of_an_earlier_version_is_read_where_it_says_what_was_judged(path):
    whole = path.read_bytes()
    old = [{k: v for k, v in line.items() if k != "digest"} for line in lines_of(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    asked, _ = again(path, EXAMPLES)
    assert asked == ["3"]  # a refusal did not say of what
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["{torn", "[1]", '{"id": "1"}', '{"id": "1", "judgments": 3}'])
def test_a_damaged_line_is_told_by_its_number(damage, path):
    lines = path.read_text().splitlines()
    lines[1] = damage
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"samples\.jsonl:2 is no line of ours"):
        again(path, EXAMPLES)


def test_two_rows_of_one_id_under_way_at_once_keep_their_own_results(tmp_path):
    rows = [replace(e, id="same") for e in EXAMPLES[:2]]
    asked, lines = again(tmp_path / "samples.jsonl", rows)
    assert len(asked) == 2
    assert [line["digest"] for line in lines] == [e.digest for e in rows]
    for line, row in zip(lines, rows, strict=True):
        assert row.prompt[0].content in line["judgments"][0]["text"]


def test_two_at_once_do_not_write_one_file(tmp_path):
    path = tmp_path / "samples.jsonl"

    class Meanwhile(Source):
        def sample_all(self, examples, k):
            with pytest.raises(ValueError, match="another process is writing"):
                collect(Source(), EXAMPLES, 2, path, name="test")
            return super().sample_all(examples, k)

    assert len(collect(Meanwhile(), EXAMPLES, 2, path, name="test")) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["samples.jsonl"]


def test_whatever_meta_holds_is_a_line_of_valid_json(tmp_path):
    odd = Example(
        "q", ["a", "b"], meta={"x": float("nan"), "\ud83d": b"\xff", "when": date(2020, 1, 2)}
    )
    path = tmp_path / "samples.jsonl"
    _, (line,) = again(path, [odd])
    assert line["meta"] == {"x": None, "\ufffd": "/w==", "when": "2020-01-02"}
    before = path.read_bytes()
    assert again(path, [odd])[0] == []
    assert path.read_bytes() == before


def test_the_size_of_the_engine_stays_with_what_it_drew(tmp_path):
    """A line that does not say it stays so: it is of an earlier version, and is not asked again."""
    path = tmp_path / "samples.jsonl"

    class Sized(Source):
        def sample_all(self, examples, k):
            for row in super().sample_all(examples, k):
                yield replace(row, engine={"slots": 8}) if isinstance(row, Sampled) else row

    again(path, EXAMPLES[:2])
    mended = [replace(e, label=1) for e in EXAMPLES]
    sizes = [None, None, *[{"slots": 8}] * 3]
    for wanted in (["5", "4", "3", "2"], []):
        asked, lines = again(path, mended, source=Sized())
        assert asked == wanted
        assert [line.get("engine") for line in lines if "error" not in line] == sizes
    found = collect(Source(), mended, 2, path, name="test")
    assert [row.engine for row in found] == sizes
