"""The same rows from every kind of file: compressed, of other encodings, tables, pipes, saved."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grm_jax.data.sources import BadRow, load_examples

ROWS = [
    {"id": "1", "prompt": "What is 37+48?", "chosen": 'He said "85",\nI think', "rejected": "84 é"},
    {"id": "2", "prompt": "Why?", "chosen": "x" * 200_000, "rejected": ""},
]


def json_lines(rows) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def table(rows, delimiter=",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parquet(rows) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


FORMS = {
    ".jsonl": json_lines(ROWS).encode(),
    ".ndjson": json_lines(ROWS).encode(),
    ".json": json.dumps(ROWS).encode(),
    ".JSON": json.dumps(ROWS, indent=1).encode(),
    ".csv": table(ROWS).encode(),
    ".tsv": table(ROWS, "\t").encode(),
    ".parquet": parquet(ROWS),
}
PACKED = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def contents(where) -> list[tuple[str, str, tuple[str, ...]]]:
    items = list(load_examples(where))
    assert not [str(item) for item in items if isinstance(item, BadRow)]
    return [(item.id, item.prompt[0].content, item.responses) for item in items]


EXPECTED = [(row["id"], row["prompt"], (row["chosen"], row["rejected"])) for row in ROWS]


# Parquet is compressed inside, and what is not read in order needs no zst.
@pytest.mark.parametrize(
    ("form", "packed"),
    [(form, packed) for form in FORMS for packed in PACKED if form + packed != ".parquet.zst"],
)
def test_every_form_reads_the_same(tmp_path, form, packed):
    path = tmp_path / f"rows{form}{packed}"
    path.write_bytes(PACKED[packed](FORMS[form]))
    assert contents(path) == EXPECTED
    assert contents(tmp_path) == EXPECTED


def test_the_number_of_rows_is_known_where_nothing_need_be_decoded(tmp_path):
    for form, known in {
        ".jsonl": 2,
        ".ndjson": 2,
        ".parquet": 2,
        ".json": None,
        ".csv": None,
    }.items():
        path = tmp_path / f"rows{form}"
        path.write_bytes(FORMS[form] + (b"\n \n" if "js" in form else b""))
        assert load_examples(path).count() == known
    assert load_examples(tmp_path).count() is None
    for form in (".json", ".csv"):
        (tmp_path / f"rows{form}").unlink()
    assert load_examples(tmp_path).count() == 6
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(FORMS[".jsonl"]))
    assert load_examples(tmp_path / "rows.jsonl.gz").count() is None
    (tmp_path / "rows.parquet").write_bytes(FORMS[".parquet"][:-9])
    assert load_examples(tmp_path / "rows.parquet").count() is None


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_parts_that_were_put_together_are_all_read(tmp_path, packed):
    path = tmp_path / f"rows.jsonl{packed}"
    path.write_bytes(b"".join(PACKED[packed](json_lines([row]).encode()) for row in ROWS))
    assert contents(path) == EXPECTED


@pytest.mark.parametrize("packed", [".gz", ".zst", ".xz", ".bz2"])
def test_a_damaged_file_is_a_bad_row_where_it_ends(tmp_path, packed):
    path = tmp_path / f"rows.jsonl{packed}"
    # Random text, so that there is something left to cut.
    rows = [{"prompt": os.urandom(999).hex(), "response": "a"} for _ in range(300)]
    path.write_bytes(PACKED[packed](json_lines(rows).encode())[:-2000])
    *_, last = load_examples(path)
    assert isinstance(last, BadRow)
    path.write_bytes(b"no such file" * 9)
    (bad,) = load_examples(path)
    assert "the file cannot be read from here on" in bad.reason


def test_a_table_that_is_cut_within_a_letter_says_how_to_save_it(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_bytes("prompt\tresponse\nq\ta\n".encode("utf-16") + b"\x00")
    *_, bad = load_examples(path)
    assert isinstance(bad, BadRow)
    assert "not utf-16-le text (truncated data); save it as UTF-8" in bad.reason


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("form", [".jsonl", ".json", ".csv"])
def test_a_mark_at_the_beginning_tells_the_encoding(tmp_path, form, encoding):
    path = tmp_path / f"rows{form}"
    path.write_bytes(FORMS[form].decode().encode(encoding))
    assert contents(path) == EXPECTED


@pytest.mark.parametrize("form", [".jsonl", ".json", ".csv"])
def test_marks_inside_a_file_are_no_content(tmp_path, form):
    parts = {
        ".jsonl": [json_lines([row]) for row in ROWS],
        ".json": [json.dumps([row]) for row in ROWS],
        ".csv": [table([row]) for row in ROWS],
    }[form]
    path = tmp_path / f"rows{form}"
    path.write_bytes(b"".join(part.encode("utf-8-sig") for part in parts))
    assert contents(path) == EXPECTED


def test_other_encodings_are_told(tmp_path):
    for form in (".jsonl", ".csv"):
        path = tmp_path / f"rows{form}"
        path.write_bytes(FORMS[form].decode().encode("latin-1"))
        bad, good = load_examples(path)
        assert isinstance(bad, BadRow)
        assert "is not UTF-8: save the file as UTF-8" in bad.reason
        assert not isinstance(good, BadRow)
    path = tmp_path / "odd.jsonl"
    path.write_bytes(json_lines(ROWS).encode("utf-16")[:-1])
    assert [isinstance(item, BadRow) for item in load_examples(path)] == [False, True]


def test_a_second_array_is_read(tmp_path):
    path = tmp_path / "rows.json"
    first, second = (json.dumps([row], indent=1) for row in ROWS)
    path.write_text(f"{first}\n{second}\n")
    assert contents(path) == EXPECTED
    assert [item.line for item in load_examples(path)] == [2, 10]
    path.write_text(f"{first}\n{second} and so on")
    *_, last = load_examples(path)
    assert "this is not JSON" in last.reason


def test_tables_in_other_words(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(table(ROWS, ";"))
    assert contents(path) == EXPECTED
    path.write_text('prompt,responses,scores\nq,"[""a"", ""b""]","[1, 2]"\n')
    (example,) = load_examples(path)
    assert (example.responses, example.label, example.line) == (("a", "b"), 1, 2)
    turns = json.dumps([{"role": "user", "content": "q"}]).replace('"', '""')
    path.write_text(f'prompt,response\n"{turns}","[1, 2]"\n')
    (example,) = load_examples(path)
    assert (example.prompt[0].content, example.responses) == ("q", ("[1, 2]",))


def test_bad_rows_of_a_table_are_told_by_their_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('\nprompt,response\n"two\nlines",a\nq,a,b\n\nq\nlast,a\n')
    items = list(load_examples(path))
    assert [(item.line, isinstance(item, BadRow)) for item in items] == [
        (3, False), (5, True), (7, True), (8, False),
    ]  # fmt: skip
    assert "the row has 3 cells and the first line names 2" in items[1].reason
    path.write_text('prompt,response\nq,"never\nclosed\n')
    (bad,) = load_examples(path)
    assert (bad.line, "not a row of a table" in bad.reason) == (2, True)
    path.write_text("prompt,response,prompt\nq,a,r\n")
    (bad,) = load_examples(path)
    assert "the column prompt comes twice in the first line" in bad.reason


@pytest.mark.parametrize(
    ("form", "packed"),
    [(".jsonl", ""), (".jsonl", ".gz"), (".json", ""), (".json", ".zst"), (".parquet", "")],
)
def test_a_pipe_is_read_once_and_iterated_twice(tmp_path, form, packed):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(PACKED[packed](FORMS[form]),))
    writer.start()
    source = load_examples(path)
    writer.join()
    assert "chosen is better" in source.mapping
    for again in (source, source, load_examples(path)):
        assert [item.id for item in again] == ["1", "2"]


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input(tmp_path, name, piped):
    code = (
        "import sys; from grm_jax.data.sources import load_examples\n"
        "source = load_examples(sys.argv[1]); print(source.mapping)\n"
        "print([item.line for item in source], [item.id for item in source])"
    )
    path = tmp_path / "rows"
    path.write_bytes(FORMS[".jsonl"])
    command = [sys.executable, "-c", code, name]
    with path.open("rb") as file:
        given = {"input": file.read()} if piped else {"stdin": file}
        done = subprocess.run(command, capture_output=True, check=True, **given)
    assert done.stdout.endswith(b"[1, 2] ['1', '2']\n")
    assert b"read with the prompt from prompt" in done.stdout


def test_folders_of_save_to_disk(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "one")
    assert contents(tmp_path / "one") == EXPECTED
    assert load_examples(tmp_path / "one").count() == 2
    datasets.DatasetDict(train=rows, test=rows.select([1])).save_to_disk(tmp_path / "two")
    (example,) = load_examples(tmp_path / "two", "test")
    assert (example.id, example.line) == ("2", 1)
    with pytest.raises(ValueError, match="has the splits train, test: choose one"):
        load_examples(tmp_path / "two")
    with pytest.raises(ValueError, match="no split 'dev', but the splits train, test"):
        load_examples(tmp_path / "two", "dev")
    with pytest.raises(ValueError, match="without splits: leave split 'test' out"):
        load_examples(tmp_path / "one", "test")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"")
    with pytest.raises(ValueError, match="was written by save_to_disk, and cannot be read"):
        load_examples(tmp_path / "one")


def test_images_of_a_data_set_are_not_decoded(tmp_path):
    import datasets

    features = datasets.Features(
        {name: datasets.Value("string") for name in ROWS[0]} | {"image": datasets.Image()}
    )
    rows = [row | {"image": {"bytes": b"\x89PNG", "path": None}} for row in ROWS]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path)
    assert contents(tmp_path) == EXPECTED


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_bytes(FORMS[".jsonl"])
    assert contents("~/rows.jsonl") == EXPECTED
    with pytest.raises(FileNotFoundError, match=f"there is no file or folder at {tmp_path}/x/y"):
        load_examples("~/x/y")


def test_one_spelling_of_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_bytes(FORMS[".jsonl"])
    spelled = [load_examples(name) for name in ("rows.jsonl", "./rows.jsonl")]
    assert len({source.mapping for source in spelled}) == 1
    assert len({item.meta["path"] for source in spelled for item in source}) == 1
