"""`grm judge` takes what `grm eval` takes: every kind of judge, saved samples, a server, pairs."""

import json
import re
from pathlib import Path

import pytest

from grm_jax.cli import main
from grm_jax.cli.commands import EvalCommand
from grm_jax.cli.evaluate import DECIDE
from grm_jax.judging.answer import Answer

SAME = ("--k", "2", "--slots", "8")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair and a list of three, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    lines = [
        {"id": "a", "prompt": "What is 61+21?", "responses": ["82", "81"], "label": 0},
        {"id": "b", "prompt": "What is 39+48?", "responses": ["86", "77", "87"], "label": 2},
    ]
    path = Path("rows.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def judge(*options: object) -> dict[str, dict]:
    assert main(["judge", *SAME, "--input", "rows.jsonl", *map(str, options)]) == 0
    lines = Path(options[1]).read_text().splitlines()  # type: ignore[arg-type]
    return {line["id"]: line for line in map(json.loads, lines)}


def test_saved_samples_have_the_verdicts_of_the_model_that_wrote_them(rows: Path) -> None:
    assert main(["eval", *SAME, "--data", str(rows), "--output", "e"]) == 0
    own = judge("--output", "own.jsonl")
    assert judge("--output", "saved.jsonl", "--samples", "e/samples.jsonl") == own


def test_pairs_are_judged_as_in_an_evaluation(rows: Path) -> None:
    pair = ["--data", str(rows), "--input", "pair", "--output", "e"]
    assert main(["eval", *SAME, *pair]) == 0
    found = judge("--output", "pairs.jsonl", "--shown", "pair")
    for line in map(json.loads, Path("e/samples.jsonl").read_text().splitlines()):
        judgments = found[line["id"]]["judgments"]
        assert [j["scores"] for j in judgments] == [j["scores"] for j in line["judgments"]]
    assert sum(found["b"]["judgments"][0]["scores"]) == 3, "three pairs, a point each"


@pytest.mark.parametrize(
    ("kind", "model", "says"),
    [
        ("judge", "tiny", "none of 2 samples had readable scores"),
        ("token-prob", "tiny", "none of 2 samples had readable scores"),
        ("pair", "tiny", "here one is needed that gives one score"),
    ],
)
def test_the_kind_of_judge_is_an_option(rows, kind: str, model: str, says: str, capsys) -> None:
    """The bundled model scores: asked for a choice, it names none, and it has no scalar head."""
    options = ["--input", str(rows), "--output", "v.jsonl", "--judge-kind", kind, "--model", model]
    assert main(["judge", *SAME, *options]) != 0
    lines = Path("v.jsonl").read_text() if Path("v.jsonl").exists() else ""
    assert says in lines + capsys.readouterr().err


def test_a_server_judges_and_what_it_refuses_is_an_error(rows: Path, monkeypatch) -> None:
    pytest.importorskip("openai")

    def complete(self, turns, seed, *, logprobs=False) -> Answer:
        n = len(re.findall(r"The Begin of Response|^\[\d\]", turns[0].content, re.M))
        if n > 2:
            raise ConnectionError("no.")
        return Answer("Analysis: a\nScores: \\boxed{9, 2}", False, 10, 5)

    monkeypatch.setattr("grm_jax.judging.server.Server.complete", complete)
    server = ("--endpoint.url", "http://localhost:1/v1", "--endpoint.model", "m")
    found = judge("--output", "v.jsonl", *server)
    assert found["a"]["valid"] == 2
    assert found["b"]["error"] == "no."
    assert found["b"]["passing"]


def test_what_does_not_go_together_is_said(rows: Path, capsys) -> None:
    for options, sentence in (
        (["--shown", "pair", "--meta-rm", "tiny-meta"], "leave out --meta-rm or --shown pair."),
        (["--judge-kind", "bt", "--reference", "true"], "the kind 'bt' is shown none"),
    ):
        assert main(["judge", "--input", str(rows), *options]) == 2
        assert sentence in capsys.readouterr().err


def test_every_option_of_an_evaluation_decides_the_result_or_may_change() -> None:
    assert {*DECIDE, "output", "mesh", "slots", "unanswered"} == set(
        EvalCommand.__dataclass_fields__
    )
