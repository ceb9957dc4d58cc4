"""`grm judge` as people run it: shown, streamed, stopped and started again, and fed bad rows."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import yaml

from grm_jax import Example, Judgment, Verdict
from grm_jax.cli import main
from grm_jax.cli.show import Showcase

ROWS = [
    {"id": "good", "prompt": "What is 61+21?", "responses": ["81", "82"]},
    {"id": "pair", "prompt": "What is 39+48?", "chosen": "87", "rejected": "97"},
    {"id": "empty", "prompt": "What is 1+1?", "responses": []},
    {"id": "one", "prompt": "What is 39+48?", "response": "87"},
    {"id": "long", "prompt": "What is 1+1? " * 400, "responses": ["2", "3"]},
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    path.write_text("\n".join([*lines[:2], "{not json", *lines[2:]]) + "\n")
    return path


def judge(*options: str | Path) -> int:
    return main(["judge", "--k", "2", "--slots", "8", *map(str, options)])


def read(path: Path) -> dict[str, dict]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def test_every_row_gets_a_verdict_or_a_reason(rows: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "verdicts.jsonl"
    assert judge("--input", rows, "--output", output) == 0
    found = read(output)
    assert len(found) == 6
    for name in ("good", "pair", "one"):
        verdict = found[name]
        assert set(verdict) >= {"id", "scores", "best", "ranking", "valid", "k", "judgments"}
        assert set(verdict["judgments"][0]) >= {"principles", "critique", "scores"}
    assert "room for" in found["long"]["error"]
    assert "rows.jsonl:4" in found["empty"]["error"]
    (broken,) = set(found) - {row["id"] for row in ROWS}
    assert "rows.jsonl:3" in found[broken]["error"]
    told = capsys.readouterr().err
    assert "3 verdicts, 3 rows with an error" in told


def test_a_second_run_does_only_what_is_missing(rows: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "verdicts.jsonl"
    assert judge("--input", rows, "--output", output) == 0
    whole = output.read_text().splitlines()
    # A kill in the middle of a line: two whole ones are kept, the torn one is written anew.
    output.write_text("\n".join(whole[:2]) + "\n" + whole[2][: len(whole[2]) // 2])
    assert judge("--input", rows, "--output", output) == 0
    assert "has 2 rows already" in capsys.readouterr().err
    again = output.read_text().splitlines()
    assert again == whole
    assert judge("--input", rows, "--output", output) == 0
    assert output.read_text().splitlines() == again


def test_principles_are_given_and_what_they_saved_is_told(
    rows: Path, tmp_path: Path, capsys
) -> None:
    """Whatever judges and whoever rates: the meta RM too knows no place for them."""
    output, folder = tmp_path / "verdicts.jsonl", tmp_path / "principles"
    asked = ("--input", rows, "--output", output, "--principles", folder)
    assert judge(*asked, "--meta-rm", "tiny-meta") == 0
    told = capsys.readouterr().err
    # "pair" and "one" ask the same; "long" cannot be asked.
    assert "given to 6 judgments" in told
    assert "written for 2 queries" in told
    found = read(output)
    for name in ("good", "pair", "one"):
        written = {judgment["principles"] for judgment in found[name]["judgments"]}
        assert len(written) == 1
    assert found["pair"]["judgments"][0]["principles"] in written
    assert "room for" in found["long"]["error"]
    assert judge(*asked, "--meta-rm", "tiny-meta") == 0, "the folder may have grown"
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("accuracy (8)")
    assert judge(*asked[:4], "--principles", rubric) == 2
    output.unlink()
    assert judge(*asked[:4], "--principles", rubric, "--adaptive", "true") == 0
    principles = {
        j["principles"] for row in read(output).values() for j in row.get("judgments", ())
    }
    assert principles == {"accuracy (8)"}


def test_other_settings_do_not_mix_into_a_file(rows: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "verdicts.jsonl"
    assert judge("--input", rows, "--output", output) == 0
    before = output.read_text()
    assert judge("--input", rows, "--output", output, "--seed", "5") == 2
    assert "seed was 0 and is now 5" in capsys.readouterr().err
    assert output.read_text() == before


def test_the_settings_beside_the_output_can_be_fed_back(rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    assert judge("--input", rows, "--output", output) == 0
    settings = tmp_path / "verdicts.jsonl.yaml"
    assert yaml.safe_load(settings.read_text())["k"] == 2
    other = tmp_path / "other.jsonl"
    assert main(["judge", "--config", str(settings), "--output", str(other)]) == 0
    assert other.read_bytes() == output.read_bytes()


def test_bundled_examples_are_shown(capsys) -> None:
    assert main(["judge", "--k", "2", "--slots", "8"]) == 0
    shown = capsys.readouterr().out
    assert "What is 16+50? Be brief and polite." in shown
    assert "Principles: " in shown
    assert "✔" in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--k", "0"], "k is 0"),
        (["--strategy.temperature", "-1"], "temperature is -1.0; give 0 (greedy)"),
        (["--input", "no/such.jsonl"], "there is no file at no/such.jsonl"),
        (["--model", "no/such/folder/at/all"], "no/such/folder/at/all"),
        (["--output", "x.jsonl"], "no --input"),
        (["--max_new_tokens", "100000"], "max_new_tokens is 100000"),
        (["--adaptive", "true", "--meta-rm", "tiny-meta"], "adaptive voting needs a model that"),
        (["--weights", "int8", "--samples", "s.jsonl"], "weights are those of a model"),
        (["--adaptive", "0.3"], "adaptive is 0.3; give true"),
    ],
)
def test_bad_input_is_one_clear_sentence(options: list[str], says: str, capsys) -> None:
    assert main(["judge", *options]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told


def test_typos_are_refused(capsys) -> None:
    assert main(["judge", "--temprature", "1"]) == 2
    assert "there is no option --temprature" in capsys.readouterr().err
    assert main(["jugde"]) == 2
    assert "there is no command 'jugde'" in capsys.readouterr().err


def test_help_lists_what_there_is(capsys) -> None:
    assert main([]) == 0
    assert "grm judge" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["judge", "--help"])
    told = capsys.readouterr().out
    assert "--strategy.temperature" in told
    assert "Samples per row" in told


def test_escape_codes_do_not_reach_the_terminal(capsys) -> None:
    example = Example("What is 1+1?\x1b[2J", ["\x1b]0;owned\x07 2", "3\r4 [bold]x"], id="a")
    judgment = Judgment(0, (0, 1), "p\x1b[1m", "c\x07", (9, 1), None, "text", 3, -1.0)
    show = Showcase()
    list(show.left([example]))
    show.write(Verdict("a", (9, 1), 0, (0, 1), (0,), 8.0, 1, 1, (judgment,)))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\r"} & set(shown)
    assert "[bold]x" in shown


def test_the_show_says_in_which_response_there_is_nothing(capsys) -> None:
    example = Example("What is 1+1?", ["2", "", "\u200b"], id="a")
    judgment = Judgment(0, (0, 1, 2), "p", "c", (9, 1, 1), None, "text", 3, -1.0)
    why = {1: "empty", 2: "no visible text"}
    verdict = Verdict("a", (9, 1, 1), 0, (0, 1, 2), (0,), 8.0, 1, 1, (judgment,), why)
    show = Showcase()
    list(show.left([example]))
    show.write(verdict)
    shown = capsys.readouterr().out
    assert shown.count("(empty)") == shown.count("(no visible text)") == 1


def test_guided_voting_counts_the_samples_that_the_meta_rm_rates_highest(rows, tmp_path) -> None:
    output = tmp_path / "guided.jsonl"
    options = ["--meta-rm", "tiny-meta", "--k-meta=1"]  # dashes, as people type them
    assert judge("--input", rows, "--output", output, *options) == 0
    verdict = read(output)["good"]
    rated = [j for j in verdict["judgments"] if j["scores"] is not None]
    assert all(isinstance(j["meta"], float) for j in rated)
    (counted,) = [j for j in rated if j["counted"]]
    assert counted["meta"] == max(j["meta"] for j in rated)
    assert verdict["scores"] == counted["scores"]


def test_adaptive_voting_says_what_it_saved(rows, tmp_path, capsys) -> None:
    every, fewer = tmp_path / "every.jsonl", tmp_path / "fewer.jsonl"
    options = ["judge", "--input", str(rows), "--k", "8", "--slots", "8", "--output"]
    assert main([*options, str(every)]) == 0
    capsys.readouterr()
    assert main([*options, str(fewer), "--adaptive", "true"]) == 0
    all_votes, votes = read(every), read(fewer)
    drawn = sum(votes[name]["k"] for name in ("good", "pair", "one"))
    assert drawn < 24
    assert votes["one"]["k"] == 8, "one response has no winner"
    assert f"{1 - drawn / 24:.1%} of 24 votes were not needed" in capsys.readouterr().err
    for name in ("good", "pair"):
        assert votes[name]["best"] == all_votes[name]["best"]
    nearly = tmp_path / "nearly.jsonl"
    assert main([*options, str(nearly), "--adaptive", "0.9"]) == 0
    told = capsys.readouterr().err
    assert "each winner is that of all its 8 votes with a probability of 0.9 or more" in told
    for name in ("good", "pair", "one"):
        assert read(nearly)[name]["k"] <= votes[name]["k"]


@pytest.mark.slow
def test_weights_in_int8_judge_and_are_a_setting(rows, tmp_path, capsys) -> None:
    pytest.importorskip("qwix")
    output = tmp_path / "int8.jsonl"
    assert judge("--input", rows, "--output", output, "--weights", "int8") == 0
    assert read(output)["good"]["valid"] == 2
    assert judge("--input", rows, "--output", output) == 2
    assert "weights was 'int8' and is now None" in capsys.readouterr().err


def test_the_show_says_what_the_meta_rm_did(capsys) -> None:
    assert main(["judge", "--k", "2", "--slots", "8", "--meta-rm", "tiny-meta"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "the meta RM counts the better 1" in shown
    assert ", rated " in shown
    assert "(" in shown


def test_k_meta_without_a_meta_rm_is_refused(capsys) -> None:
    assert main(["judge", "--k-meta", "2"]) == 2
    assert "k_meta is 2" in capsys.readouterr().err


def test_a_full_device_is_told_with_what_to_do(monkeypatch, capsys) -> None:
    # XLA's own errors, of an array and of a program that are too large for any machine.
    square = jax.jit(lambda x: jnp.sort(x[:, None] * x))
    for too_much in (
        lambda _: jnp.zeros(1 << 47, jnp.int8),
        lambda _: square(jnp.zeros(1 << 25)).block_until_ready(),
    ):
        monkeypatch.setattr("grm_jax.cli.judge.run", too_much)
        assert main(["judge"]) == 1
        told = capsys.readouterr().err
        assert told.startswith("grm judge: out of memory on the device (")
        assert "--slots" in told
