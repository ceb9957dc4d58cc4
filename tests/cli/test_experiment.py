"""`grm experiment`, from the command line to the page."""

import json
from pathlib import Path

import pytest

from grm_jax.cli import main
from grm_jax.cli.experiment import EXPERIMENTS
from grm_jax.evals.experiments import setting
from grm_jax.judging.judgment import Judgment, Sampled
from grm_jax.judging.samples import to_json
from grm_jax.text.messages import Example

ROOT = Path(__file__).resolve().parents[2]
FILES = {"data.json", "table.md", "index.html"}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file of rows, and two judgments of each: the first not readable, the second right."""
    folder = tmp_path_factory.mktemp("saved")
    rows, samples = [], []
    for number in range(6):
        row = {
            "id": str(number),
            "prompt": f"q{number}",
            "responses": list("abc"),
            "label": number % 3,
        }
        right = tuple(10 if i == row["label"] else 1 for i in range(3))
        judgments = (
            Judgment(0, (0, 1, 2), "", "", None, "no_box", "", 5, -1.0, counted=False),
            Judgment(1, (0, 1, 2), "p", "c", right, None, "p c", 5, -1.0),
        )
        example = Example(row["prompt"], row["responses"], row["id"], label=row["label"])
        rows.append(json.dumps(row) + "\n")
        samples.append(json.dumps(to_json(Sampled(example, judgments))) + "\n")
    (folder / "rows.jsonl").write_text("".join(rows))
    (folder / "samples.jsonl").write_text("".join(samples))
    return folder


def scaling(output, saved, *more):
    judges = json.dumps({"saved": {"samples": str(saved / "samples.jsonl")}})
    options = ["--models", "[]", "--judges", judges, "--meta-rm", "null", "--k", "2"]
    where = ["--data", str(saved / "rows.jsonl"), "--output", str(output)]
    return main(["experiment", "scaling", *options, *where, *more])


def test_an_experiment_from_saved_samples(tmp_path, saved, capsys):
    assert scaling(tmp_path / "a", saved) == 0
    shown = capsys.readouterr().out
    assert "DeepSeek-GRM-27B" in shown
    assert FILES | {"scaling.svg", "scaling.png"} <= {p.name for p in (tmp_path / "a").iterdir()}
    data = json.loads((tmp_path / "a" / "data.json").read_text())
    (judge,) = data["judges"]
    values = {vote["k"]: vote["cells"]["accuracy"]["value"] for vote in judge["votes"]}
    assert values == {1: 50.0, 2: 100.0}
    assert len(lines(tmp_path / "a" / "saved" / "samples.jsonl")) == 6


def test_it_goes_on_with_what_is_there(tmp_path, saved, capsys):
    assert scaling(tmp_path / "a", saved) == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir() if p.is_file()}
    for name in FILES:
        (tmp_path / "a" / name).unlink()
    assert scaling(tmp_path / "a", saved) == 0
    after = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir() if p.is_file()}
    assert after == before
    assert scaling(tmp_path / "a", saved, "--seed", "1") == 2
    assert "seed was 0 and is now 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_is_shown_reference_answers(tmp_path):
    """The bundled model, never taught to read one, with templates that have a place for it."""
    rows = tmp_path / "rows.jsonl"
    row = {"prompt": "What is 37+48?", "responses": ["85", "84"], "label": 0, "reference": "85"}
    rows.write_text(json.dumps(row) + "\n" + json.dumps(row | {"reference": ""}) + "\n")
    templates = str(ROOT / "configs" / "templates" / "tiny_shown")
    judges = json.dumps({"tiny": {"model": "tiny", "templates": templates, "slots": 4}})
    options = ["--models", "[]", "--judges", judges, "--k", "2", "--data", str(rows)]
    assert main(["experiment", "reference", *options, "--output", str(tmp_path / "out")]) == 0
    (plain,) = lines(tmp_path / "out" / "tiny" / "samples.jsonl")
    (told,) = lines(tmp_path / "out" / "tiny-reference" / "samples.jsonl")
    assert plain["id"] == told["id"]
    # The same item, order and draws: what differs is what the model was shown.
    assert [j["order"] for j in plain["judgments"]] == [j["order"] for j in told["judgments"]]
    assert [j["logprob"] for j in plain["judgments"]] != [j["logprob"] for j in told["judgments"]]
    assert (tmp_path / "out" / "reference.svg").exists()


def test_pairs_and_lists_judge_the_same_items(tmp_path, saved, monkeypatch):
    """A judge that scores by position: lists have a best response, pairs a winner each."""

    class First:
        on_devices = False

        def sample_all(self, examples, k):
            for example in examples:
                scores = tuple(range(example.n, 0, -1))
                order = tuple(range(example.n))
                one = Judgment(0, order, "", "", scores, None, "", 1, 0.0)
                yield Sampled(example, (one,) * k)

    monkeypatch.setattr(setting, "open_judge", lambda *_, **__: First())
    where = ["--data", str(saved / "rows.jsonl"), "--output", str(tmp_path)]
    assert main(["experiment", "input", *where]) == 0
    scores = {
        way: [row["judgments"][0]["scores"] for row in lines(tmp_path / way / "samples.jsonl")]
        for way in ("tiny-list", "tiny-pair")
    }
    assert scores == {"tiny-list": [[3, 2, 1]] * 6, "tiny-pair": [[2, 1, 0]] * 6}
    assert "more than two responses" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        main(["experiment", name, "--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--output" in shown
    assert "subcommand" not in shown
