"""`grm judge`: whose the output is, and that each row has the verdict on what it holds now.

The judge is scripted: it likes the longest response best, and notes what it was asked.
"""

import json
from pathlib import Path

import pytest
import yaml

from grm_jax.cli import main
from grm_jax.judging.judgment import Judgment, Refusal, Sampled


class Scripted:
    """In the place of a loaded judge."""

    on_devices, k = True, 2

    asked: list[str]
    passing = False

    def __init__(self):
        self.asked, self.source = [], self
        self.engine = self.given = None

    def sample_all(self, examples, k):
        held = []
        for example in examples:
            held.append(example)
            if len(held) == 3:
                yield from map(self._judge, reversed(held))
                held = []
        yield from map(self._judge, reversed(held))

    def _judge(self, example):
        self.asked.append(example.prompt[0].content)
        if "refuse" in example.prompt[0].content:
            return Refusal(example.id, "no answer.", self.passing)
        scores = tuple(min(len(text), 10) for text in example.responses)
        order = tuple(range(example.n))
        judgments = [
            Judgment(0, order, "p", "c", scores, None, "t", 3, -1.0),
            Judgment(1, order, "", "", None, "no_box", "t", 3, -1.0, counted=False),
        ]
        return Sampled(example, tuple(judgments), engine=self.engine)


@pytest.fixture
def judge(monkeypatch, tmp_path):
    """judge(*options): runs `grm judge`; judge.asked: what it asked for. In a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> int:
        run.judge = Scripted()
        run.judge.passing, run.judge.engine = run.passing, run.engine
        monkeypatch.setattr("grm_jax.cli.judge.CommandJudge", lambda *_, **__: run.judge)
        return main(["judge", "--k", "2", *map(str, options)])

    run.passing, run.engine = False, None
    return run


def row(name, prompt: str | None = None, responses=("long", "x"), **more) -> dict:
    own = {} if name is None else {"id": name}
    return {**own, "prompt": prompt or f"question {name}", "responses": list(responses), **more}


def write(*rows: dict | str, path: str = "rows.jsonl") -> Path:
    lines = (line if isinstance(line, str) else json.dumps(line) for line in rows)
    Path(path).write_text("".join(f"{line}\n" for line in lines))
    return Path(path)


def verdicts(path: str = "v.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


OUT = ("--input", "rows.jsonl", "--output", "v.jsonl")


# Kind A: a path is trusted without knowing whose it is.


@pytest.mark.parametrize("kind", ["array.json", "rows.jsonl"])
def test_the_input_is_never_the_output(kind, judge, capsys):
    rows = [row("a"), "{not json", row("b")] if kind == "rows.jsonl" else [json.dumps([row("a")])]
    before = write(*rows, path=kind).read_bytes()
    assert judge("--input", kind, "--output", f"./{kind}") == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert Path(kind).read_bytes() == before
    assert [path.name for path in Path().iterdir()] == [kind]


def test_a_note_of_the_users_is_never_the_output(judge, capsys):
    write(row("a"))
    Path("notes.txt").write_text("mine")
    assert judge("--input", "rows.jsonl", "--output", "notes.txt") == 2
    assert "notes.txt is there and is no output of grm judge" in capsys.readouterr().err
    assert Path("notes.txt").read_text() == "mine"


def test_an_output_in_the_folder_of_the_input_does_not_feed_itself(judge):
    Path("in").mkdir()
    write(row("a"), row("b"), path="in/rows.jsonl")
    for times in range(3):
        assert judge("--input", "in", "--output", "in/v.jsonl") == 0
        assert len(judge.judge.asked) == (0 if times else 2)
        found = verdicts("in/v.jsonl")
        assert [(v["id"], v["path"], v["line"]) for v in found] == [
            ("a", "rows.jsonl", 1),
            ("b", "rows.jsonl", 2),
        ]


@pytest.mark.parametrize("content", ["", "k: [", "just text"])
def test_settings_that_are_emptied_or_broken_are_told(content, judge, capsys):
    write(row("a"))
    assert judge(*OUT) == 0
    before = Path("v.jsonl").read_bytes()
    Path("v.jsonl.yaml").write_text(content)
    assert judge(*OUT) == 2
    told = capsys.readouterr().err
    assert "v.jsonl.yaml is empty or damaged" in told
    assert "Traceback" not in told
    assert Path("v.jsonl").read_bytes() == before


def test_a_folder_as_the_output_is_told(judge, capsys):
    write(row("a"))
    Path("v.jsonl").mkdir()
    assert judge(*OUT) == 2
    assert "v.jsonl is a folder" in capsys.readouterr().err


def test_a_tilde_in_a_config_is_the_home_folder(judge, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(row("a"))
    Path("c.yaml").write_text("input: rows.jsonl\noutput: ~/v.jsonl\n")
    assert judge("--config", "c.yaml") == 0
    assert len(verdicts("home/v.jsonl")) == 1
    assert not Path("~").exists()


def test_other_weights_in_the_folder_of_the_model_are_refused(judge, capsys):
    write(row("a"))
    Path("model").mkdir()
    Path("model/model.safetensors").write_text("1")
    assert judge(*OUT, "--model", "model") == 0
    before = Path("v.jsonl").read_bytes()
    Path("model/model.safetensors").write_text("2")
    assert judge(*OUT, "--model", "model") == 2
    assert "the files of model are not what they were" in capsys.readouterr().err
    assert Path("v.jsonl").read_bytes() == before


# Kind B: "done" means that there is a result of this content.


def test_swapped_responses_are_judged_anew(judge):
    write(row("a"))
    assert judge(*OUT) == 0
    assert verdicts()[0]["best"] == 0
    write(row("a", responses=("x", "long")))
    assert judge(*OUT) == 0
    (verdict,) = verdicts()
    assert (verdict["id"], verdict["best"]) == ("a", 1)


def test_a_mended_row_is_judged_and_a_broken_one_is_told_of(judge):
    write(row("a", responses=()), "{not json", row("c"))
    assert judge(*OUT) == 0
    assert ["error" in v for v in verdicts()] == [True, True, False]
    write(row("a"), row("b"), row("c", responses=()))
    assert judge(*OUT) == 0
    assert sorted(judge.judge.asked) == ["question a", "question b"]
    assert [(v["id"], "error" in v) for v in verdicts()] == [("a", 0), ("b", 0), ("c", 1)]


def test_each_row_has_its_verdict_when_rows_come_between(judge):
    """Rows without ids, and rows of one id, in another place than before."""
    write(row("same", "q1"), row(None, "q2"))
    assert judge(*OUT) == 0
    write(row("same", "q0"), row("same", "q1"), row(None, "q3"), row(None, "q2"))
    assert judge(*OUT) == 0
    assert judge.judge.asked == ["q3", "q0"]
    found = verdicts()
    assert [v["line"] for v in found] == [1, 2, 3, 4]
    assert [v["id"] for v in found[:2]] == ["same", "same"]
    assert len({v["digest"] for v in found}) == 4


def test_rows_of_one_content_are_judged_once_and_have_a_line_each(judge):
    write(row("a", "q"), row("b"), row("c", "q"))
    for _ in range(2):
        assert judge(*OUT) == 0
        found = verdicts()
        assert [(v["id"], v["line"]) for v in found] == [("a", 1), ("b", 2), ("c", 3)]
        assert found[0]["scores"] == found[2]["scores"]
    assert judge.judge.asked == []


def test_what_failed_for_a_passing_reason_is_asked_again(judge):
    write(row("a", "refuse this"), row("b"))
    judge.passing = True
    for passing in (True, False, False):
        judge.passing = passing
        assert judge(*OUT) == 0
        assert [v["id"] for v in verdicts()] == ["a", "b"]
        assert ("passing" in verdicts()[0]) == passing
    assert judge.judge.asked == []


def test_a_file_without_digests_is_refused(judge, capsys):
    write(row("a"))
    assert judge(*OUT) == 0
    old = [{k: v for k, v in line.items() if k != "digest"} for line in verdicts()]
    Path("v.jsonl").write_text(json.dumps(old[0]) + "\n")
    assert judge(*OUT) == 2
    assert (
        "v.jsonl:1 is no line of ours (it does not say what was judged" in capsys.readouterr().err
    )


def test_each_verdict_says_the_size_of_its_engine_and_keeps_it(judge, capsys):
    """Another size rounds differently: a file may be continued with one, and says so; a line of an
    earlier version, which did not write it down, stays as it is."""
    write(row("a"), row("b"))
    assert judge(*OUT) == 0
    assert ["engine" in v for v in verdicts()] == [False, False]
    write(row("a"), row("b"), row("c"))
    judge.engine = {"slots": 64, "places": 4}
    assert judge(*OUT) == 0
    assert judge.judge.asked == ["question c"]
    assert [v.get("engine") for v in verdicts()] == [None, None, judge.engine]
    assert "several sizes" in capsys.readouterr().err
    before = verdicts()
    write(row("c"), row("b", label=0), row("d"))
    judge.engine = {"slots": 16, "places": 4}
    assert judge(*OUT, "--slots", "16") == 0
    assert judge.judge.asked == ["question d"]
    assert [v.get("engine") for v in verdicts()[:3]] == [before[2]["engine"], None, judge.engine]
    told = capsys.readouterr().err
    assert "1 (slots 64, places 4), 1 (of unknown size), 1 (slots 16, places 4)" in told


# Kind I: results that can be joined.


def test_a_verdict_says_its_line_and_the_rows_own_id_as_it_was(judge):
    write(row(12), row("12x"), row(None, "q"), row(2.5))
    assert judge(*OUT) == 0
    found = verdicts()
    assert [v["line"] for v in found] == [1, 2, 3, 4]
    assert [v["id"] for v in found] == [12, "12x", found[2]["digest"], 2.5]
    assert type(found[0]["id"]) is int


def test_means_do_not_fall_where_a_sample_cannot_be_read(judge):
    write(row("a"))
    assert judge(*OUT) == 0
    (verdict,) = verdicts()
    assert (verdict["scores"], verdict["mean_scores"]) == ([4, 1], [4.0, 1.0])
    assert (verdict["counted"], verdict["valid"], verdict["k"]) == (1, 1, 2)


def test_the_file_ends_in_the_order_of_the_rows(judge):
    write(*[row(i) for i in range(7)])
    assert judge(*OUT, "--limit", "3") == 0
    assert judge(*OUT) == 0
    assert [v["id"] for v in verdicts()] == list(range(7))
    before = Path("v.jsonl").read_bytes()
    assert judge(*OUT) == 0
    assert Path("v.jsonl").read_bytes() == before
    write(*[row(i) for i in (5, 0, 6, 1, 2, 4, 3)])
    assert judge(*OUT) == 0
    assert judge.judge.asked == []
    assert [(v["id"], v["line"]) for v in verdicts()][:2] == [(5, 1), (0, 2)]


def test_lines_beyond_a_limit_are_kept_at_the_end(judge, capsys):
    write(*[row(i) for i in range(5)])
    assert judge(*OUT) == 0
    write(row(0), row(1, "changed"), *[row(i) for i in range(2, 5)])
    assert judge(*OUT, "--limit", "2") == 0
    assert judge.judge.asked == ["changed"]
    assert [v["id"] for v in verdicts()] == list(range(5))
    assert "3 lines of other rows are kept at its end" in capsys.readouterr().err
    # Rows that are gone are kept as well; what a row has replaced is not.
    write(row(0), row(4, "another"))
    assert judge(*OUT) == 0
    assert [v["id"] for v in verdicts()] == [0, 4, 1, 2, 3]


def test_a_changed_row_without_an_id_is_replaced_by_its_place(judge):
    write(row(None, "q1"), row(None, "q2"))
    assert judge(*OUT) == 0
    write(row(None, "q1"), row(None, "q3"))
    assert judge(*OUT) == 0
    assert judge.judge.asked == ["q3"]
    assert [v["line"] for v in verdicts()] == [1, 2]


def test_the_settings_can_be_fed_back(judge):
    write(row("a"))
    assert judge(*OUT) == 0
    assert yaml.safe_load(Path("v.jsonl.yaml").read_text())["k"] == 2
    assert judge("--config", "v.jsonl.yaml", "--output", "w.jsonl") == 0
    assert Path("w.jsonl").read_bytes() == Path("v.jsonl").read_bytes()
