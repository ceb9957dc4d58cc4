"""No row and no file ends a run: each is read, or refused in a sentence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_jax.data.sources import BadRow, load_examples
from tests.data.arbitrary_rows import check_file, check_row, rows


@given(rows)
def test_no_row_raises_anything_but_a_sentence(row):
    check_row(row)


@settings(max_examples=25)
@given(st.lists(rows, max_size=4), st.data())
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_no_file_of_rows_raises(tmp_path_factory, suffix, written, data):
    path = tmp_path_factory.getbasetemp() / f"rows{suffix}"
    content = "\n".join(map(json.dumps, written)).encode()
    if suffix == ".json":
        content = b"[" + content.replace(b"\n", b",\n") + b"]"
    cut = data.draw(st.integers(0, len(content)))
    check_file(content[:cut] + data.draw(st.binary(max_size=2)) + content[cut:], path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f'{{"prompt": "q", "responses": ["a", "b"], "scores": [1{"0" * 400}, 1]}}', "too large"),
        (f'{{"prompt": "q", "responses": ["a", "b"], "label": 1{"0" * 400}}}', "out of range"),
        ('{"prompt": "q", "responses": ["a", "b"], "scores": [NaN, 1]}', "not a finite number"),
        (f'{{"prompt": "q", "response": "a", "x": {"[" * 500 + "]" * 500}}}', "more than 64 deep"),
        (f'{{"prompt": "q", "response": "a", "x": 1{"0" * 5000}}}', "JSON cannot be read"),
        ('{"prompt": "q", "prompt": "r", "response": "a"}', "the key prompt comes twice"),
        ('{"prompt": "q", "response": "a", "label": -5e300}', "of a single response must be"),
    ],
)
def test_the_trouble_of_a_row_is_its_own(tmp_path, line, words):
    path, good = tmp_path / "rows.jsonl", '{"prompt": "q", "response": "a"}'
    path.write_text(f"{good}\n{line}\n{good}\n")
    first, bad, last = load_examples(path)
    assert isinstance(bad, BadRow)
    assert words in bad.reason
    assert len(bad.reason) < 300
    assert (first.line, bad.line, last.line) == (1, 2, 3)


def test_an_id_that_is_no_number_is_none(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": NaN, "uid": 7, "prompt": "q", "response": "a"}\n')
    (item,) = load_examples(path)
    assert (item.id, item.own_id) == ("7", 7)


@pytest.mark.parametrize(
    ("name", "content"),
    [("half.csv", b"\xff\xfet\xdb\x17J"), ("wide.tsv", b"x" * 2000 + b"\tb\n1\t2\n")],
    ids=["half a character of UTF-16", "a long name of a column"],
)
def test_what_fuzzing_found_is_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    check_file(content, tmp_path / name)
