"""`grm data math-pairs`: what a model answers is asked once, and made into pairs at the end."""

import json

import pytest

from grm_jax import cli
from grm_jax.cli import data
from grm_jax.judging.answers import Answered
from grm_jax.judging.judgment import Refusal


class Model:
    """Answers right and wrong in turn, last question first; fails and stops where it is told to."""

    def __init__(self, stop=None, fails=()):
        self.stop, self.fails, self.asked = stop, set(fails), []

    def answer_all(self, questions, n):
        for question in reversed(list(questions)):
            if len(self.asked) == self.stop:
                raise KeyboardInterrupt
            text = question.text.partition("\n")[0]
            self.asked.append(text)
            if text in self.fails:
                yield Refusal(question.id, "the server is gone", passing=True)
                continue
            total = sum(map(int, text.removesuffix("?").split("+")))
            yield Answered(
                question.id, tuple(rf"\boxed{{{total + i % 2}}}" * (i + 1) for i in range(n))
            )


@pytest.fixture
def problems(tmp_path):
    rows = [{"problem": f"{i}+1?", "solution": rf"\boxed{{{i + 1}}}"} for i in range(5)]
    path = tmp_path / "math.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(monkeypatch, model, problems, output, *more):
    monkeypatch.setattr(data, "_source", lambda cfg: model)
    arguments = ["data", "math-pairs", "--input", str(problems), "--output", str(output), *more]
    return cli.main([*arguments, "--answers", "3"])


def test_a_run_that_is_stopped_anywhere_ends_in_the_same_bytes(monkeypatch, problems, tmp_path):
    whole = Model()
    assert run(monkeypatch, whole, problems, tmp_path / "whole") == 0
    wanted = (tmp_path / "whole" / "pairs.jsonl").read_bytes()
    assert [json.loads(line)["prompt"] for line in wanted.splitlines()] == sorted(whole.asked)
    output, asked = tmp_path / "parts", []
    for stop in (0, 2, 1, 1):
        model = Model(stop)
        assert run(monkeypatch, model, problems, output) == 130
        asked += model.asked
        with (output / "answers.jsonl").open("ab") as file:
            file.write(b'{"id": "torn')
    rest = Model()
    assert run(monkeypatch, rest, problems, output) == 0
    assert sorted(asked + rest.asked) == sorted(whole.asked)
    assert (output / "pairs.jsonl").read_bytes() == wanted
    assert run(monkeypatch, Model(stop=0), problems, output) == 0, "nothing is left to ask"


def test_what_got_no_answer_is_counted_and_asked_again(monkeypatch, problems, tmp_path, capsys):
    assert run(monkeypatch, Model(fails=["2+1?"]), problems, tmp_path / "o") == 1
    told = capsys.readouterr().out
    assert "1 problems without answers" in told
    assert "4 pairs" in told
    again = Model()
    assert run(monkeypatch, again, problems, tmp_path / "o") == 0
    assert again.asked == ["2+1?"]
    assert json.loads((tmp_path / "o" / "report.json").read_text())["pairs"] == 5


def test_a_problem_that_was_changed_is_asked_anew(monkeypatch, problems, tmp_path):
    run(monkeypatch, Model(), problems, tmp_path / "o")
    problems.write_text(problems.read_text().replace("4+1?", "4+2?").replace("{5}", "{6}"))
    model = Model()
    assert run(monkeypatch, model, problems, tmp_path / "o") == 0
    assert model.asked == ["4+2?"]
    assert "4+1?" not in (tmp_path / "o" / "pairs.jsonl").read_text()


def test_another_run_does_not_take_the_folder(monkeypatch, problems, tmp_path, capsys):
    run(monkeypatch, Model(), problems, tmp_path / "o")
    assert run(monkeypatch, Model(), problems, tmp_path / "o", "--seed", "1") == 2
    assert "seed was 0 and is now 1" in capsys.readouterr().err


def test_rows_with_answers_need_no_model(tmp_path, capsys):
    rows = [
        {"question": "1+1?", "answer": "#### 2", "responses": ["A: 3", "A: 2"]},
        {"question": "1+2?"},
    ]
    path = tmp_path / "answered.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["data", "math-pairs", "--input", str(path), "--output", str(tmp_path / "o")]
    assert cli.main(arguments) == 0
    (pair,) = (tmp_path / "o" / "pairs.jsonl").read_text().splitlines()
    assert (json.loads(pair)["chosen"], json.loads(pair)["rejected"]) == ("A: 2", "A: 3")
    told = capsys.readouterr()
    assert "answered.jsonl:2: the row has no gold answer" in told.out + told.err
    assert "1 rows that are no problems" in told.out
    assert not (tmp_path / "o" / "answers.jsonl").exists()


def test_problems_without_a_model_are_refused(problems, tmp_path, capsys):
    arguments = ["data", "math-pairs", "--input", str(problems), "--output", str(tmp_path / "o")]
    assert cli.main(arguments) == 2
    assert "name a --model or an --endpoint.url" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--answers", "1"], "a pair takes 2 answers"),
        (["--model", "m", "--endpoint", "{url: 'http://x', model: m}"], "both given"),
        (["--input", "world"], "small world"),
        (["--input", "[{source: a/b, name: algebra, limit: 0}]"], "limit is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(problems, tmp_path, capsys, options, said):
    arguments = ["data", "math-pairs", "--input", str(problems), "--output", str(tmp_path / "o")]
    assert cli.main([*arguments, *options]) == 2
    assert said in capsys.readouterr().err
