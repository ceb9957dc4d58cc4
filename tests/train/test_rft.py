"""Rejective fine-tuning: what is sampled, what is kept, and what is learned."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from grm_jax.data.config import BatchConfig, ItemsConfig, SourceConfig
from grm_jax.data.items import load_items
from grm_jax.judging.asking import read_judgment
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.folder import bundled
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples, to_json
from grm_jax.judging.sources import open_judge
from grm_jax.randomness import item_key, response_order
from grm_jax.text.messages import Example
from grm_jax.text.parse import parse_choice, parse_judgment
from grm_jax.text.prompts import load_templates
from grm_jax.train import rft
from grm_jax.train.config import CheckpointConfig, OptimizerConfig, RunConfig
from grm_jax.train.stages.rft import RFTConfig
from tests.devices import one_device
from tests.train.pairs import Pair, change

pytestmark = pytest.mark.slow  # all of them need a trained model

TINY_SHOWN = Path(__file__).resolve().parents[2] / "configs" / "templates" / "tiny_shown"


@pytest.fixture(scope="module", autouse=True)
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    stage = RFTConfig(
        items=(ItemsConfig(limit=40),),
        judge=JudgeConfig(slots=16),
        general=(SourceConfig("answers"),),
        general_share=0.25,
        steps=3,
        batch=BatchConfig(8, 128),
        optimizer=OptimizerConfig(1e-4),
        checkpoint=CheckpointConfig(every=2),
    )
    return Pair(RunConfig(str(tmp_path_factory.mktemp("rft"))), stage)


@pytest.fixture(scope="module")
def done(cfg):
    """The folder of a finished run on forty items of the world."""
    model = rft.run(*cfg)
    assert model is not None
    return model.parent


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_judgment_is_accounted_for(done):
    found = lines(done / "trajectories.jsonl")
    report = json.loads((done / "report.json").read_text())
    assert len(found) == 40 * 4
    assert sum(report["plain"].values()) == 40 * 3
    assert sum(report["hinted"].values()) == 40
    kinds = {row["outcome"] for row in found}
    assert {"chosen", "too_easy", "wrong"} <= kinds
    for row in found:
        assert (row["reason"] is not None) == (row["outcome"] == "unparsable")
        if row["outcome"] == "chosen":
            assert is_correct(row["scores"], row["label"] if row["best"] is None else row["best"])


def test_what_is_learned_is_right_and_never_shows_the_hint(done):
    chosen = lines(done / "chosen.jsonl")
    kept = [row for row in lines(done / "trajectories.jsonl") if row["outcome"] == "chosen"]
    assert [row["completion"] for row in chosen] == [row["text"] for row in kept]
    assert any(row["hinted"] for row in kept)
    for row, trajectory in zip(chosen, kept, strict=True):
        assert "Best:" not in row["prompt"]
        assert "Truth:" not in row["prompt"]
        assert all(response in row["prompt"] for response in trajectory["responses"])
        n = len(trajectory["responses"])
        parsed = parse_judgment(row["completion"], n, *((0, 1) if n == 1 else (1, 10)))
        assert list(parsed.scores) == trajectory["scores"]


def test_no_item_that_is_always_right_is_learned(done):
    plain = {row.example.id: row for row in read_samples(done / "samples_plain.jsonl")}
    chosen = {r["id"] for r in lines(done / "trajectories.jsonl") if r["outcome"] == "chosen"}
    for name, row in plain.items():
        right = [is_correct(j.scores, row.example.label) for j in row.judgments]
        assert not (all(right) and name in chosen)
        assert not any(right) or all(right) or name in chosen


def test_hinted_samples_are_drawn_from_prompts_that_name_the_best(cfg, done):
    judge = open_judge(cfg.cfg.judge, cfg.run.start, seed=0, hinted=True)
    for row in read_samples(done / "samples_hinted.jsonl"):
        tokenizer = judge.folder.tokenizer
        prompt = tokenizer.decode(judge.prompt_tokens(row.example))
        told = row.example.label + (row.example.n > 1)
        assert f"{'Best' if row.example.n > 1 else 'Truth'}: {told}" in prompt


def test_single_responses_are_judged_right_or_wrong_and_learned(cfg, tmp_path):
    prompts = {"q1": "What is 37+48?", "q2": "What is 30+58?"}
    rows = [
        {"id": f"{name}-{answer}", "prompt": prompt, "responses": [answer], "label": int(right)}
        for name, prompt in prompts.items()
        for answer, right in {"85": name == "q1", "88": name == "q2"}.items()
    ]
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(map(json.dumps, rows)))
    rft.run(*change(cfg, output=str(tmp_path / "run"), items=(ItemsConfig(str(items)),), steps=1))
    single = read_samples(tmp_path / "run" / "samples_plain.jsonl")
    assert {s for row in single for j in row.judgments if (s := j.scores)} == {(0,), (1,)}
    found = lines(tmp_path / "run" / "trajectories.jsonl")
    assert {row["outcome"] for row in found} >= {"chosen", "too_easy"}
    for row in found:
        if row["outcome"] == "chosen":
            assert row["scores"] == [row["label"]]


def test_a_report_of_other_items_is_not_taken_for_this_ones(cfg, done, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(done, run)
    report = run / "report.json"
    known = json.loads(report.read_text())
    report.write_text(json.dumps({**known, "data": "b"}))
    with pytest.raises(ValueError, match="is of other items than there are now"):
        rft.run(*change(cfg, output=str(run)))
    unknown = {name: value for name, value in known.items() if name != "data"}
    for taken in ({**known, "more": 1}, unknown):  # an earlier version's does not say
        report.write_text(json.dumps(taken))
        assert rft.run(*change(cfg, output=str(run))) == run / "model"
        assert json.loads(report.read_text()) == taken  # and nothing is judged again


def test_the_mix_is_the_stated_share(cfg, tmp_path):
    chosen, general = rft.mixture(cfg.cfg, tmp_path)
    assert (chosen.weight, general.weight) == (0.75, 0.25)
    two = (SourceConfig("answers", 3.0), SourceConfig("answers", 1.0))
    weights = [s.weight for s in rft.mixture(change(cfg, general=two).cfg, tmp_path)]
    np.testing.assert_allclose(weights, [0.75, 0.1875, 0.0625])
    only = change(cfg, n_plain=0, n_hinted=0)
    assert [s.source for s in rft.mixture(only.cfg, tmp_path)] == ["answers"]
    none = change(cfg, general_share=0.0)
    assert [s.weight for s in rft.mixture(none.cfg, tmp_path)] == [1.0]


def test_saved_judgments_take_the_place_of_a_judge(cfg, done, tmp_path):
    saved = JudgeConfig(samples=str(done / "samples_plain.jsonl"))
    other = change(cfg, output=str(tmp_path), judge=saved, n_hinted=0, steps=1)
    rft.run(*other)
    mine = lines(tmp_path / "trajectories.jsonl")
    theirs = [r for r in lines(done / "trajectories.jsonl") if not r["hinted"]]
    assert mine == theirs


def saved_choices(path, items):
    """A file with three choices of each item: all right, all wrong, or mixed, item by item."""
    answer = "Specific Criteria: x\nAnalysis: y\nChoice: \\boxed{{{}}}".format
    template = load_templates(None).judge
    with path.open("w") as file:
        for number, item in enumerate(items):
            judgments = []
            for sample in range(3):
                order = response_order(0, item_key(item.digest), sample, item.n)
                right = number % 3 == 0 or (number % 3 == 1 and sample == 0)
                place = order.index(item.label)
                text = answer((place if right else (place + 1) % item.n) + 1)
                judgments.append(
                    read_judgment(text, template, sample=sample, order=order, tokens=3, logprob=0.0)
                )
            file.write(json.dumps(to_json(Sampled(item, tuple(judgments)))) + "\n")


@pytest.fixture(scope="module")
def trained_judge(cfg, tmp_path_factory):
    """The folder of a judge that learned from saved choices for a step, and the items."""
    folder = tmp_path_factory.mktemp("judge")
    some = (ItemsConfig(start=20, limit=40),)
    items = load_items(some, 0)
    saved_choices(folder / "saved.jsonl", [item for item in items if item.n > 1])
    saved = JudgeConfig(samples=str(folder / "saved.jsonl"))
    changes = {"output": str(folder / "run"), "items": some, "judge": saved, "n_hinted": 0}
    rft.run(*change(cfg, kind="judge", steps=1, **changes))
    return folder / "run", items


def test_a_judge_learns_its_right_choices(trained_judge):
    run, items = trained_judge
    several = [item for item in items if item.n > 1]
    assert len(several) < len(items), "single responses, which leave nothing to choose"
    found = lines(run / "trajectories.jsonl")
    assert {row["id"] for row in found} == {item.id for item in several}
    outcomes = [[r["outcome"] for r in found if r["id"] == item.id] for item in several]
    assert outcomes[:3] == [["too_easy"] * 3, ["chosen", "wrong", "wrong"], ["wrong"] * 3]
    chosen = lines(run / "chosen.jsonl")
    assert len(chosen) == sum(o.count("chosen") for o in outcomes) > 5
    by_text = {item.prompt[-1].content: item for item in several}
    for row in chosen:
        query, *_, asked = row["prompt"].splitlines()
        item = by_text[query]
        assert asked == "Which is best?"
        place = parse_choice(row["completion"], item.n).index
        assert f"[{place + 1}] {item.responses[item.label]}" in row["prompt"].splitlines()


def test_a_trained_judge_says_what_it_is(trained_judge):
    run, _ = trained_judge
    assert json.loads((run / "model" / "grm.json").read_text())["kind"] == "judge"
    judge = open_judge(JudgeConfig(), str(run / "model"), seed=0, hinted=True)
    assert judge.kind == "judge"
    prompt = judge.prompt_tokens(Example("What is 2+2?", ["5", "4"], label=1))
    assert "Which is best?\nBest: 2" in judge.folder.tokenizer.decode(prompt)


def test_without_principles_none_are_asked_for_and_none_are_learned(cfg, done, tmp_path):
    saved = JudgeConfig(samples=str(done / "samples_plain.jsonl"))
    other = change(
        cfg, output=str(tmp_path / "run"), judge=saved, n_hinted=0, steps=1, principles=False
    )
    with pytest.raises(ValueError, match=r"tiny-start.* all ask for principles: .*sft_shown.yaml"):
        rft.run(*other)
    # Beside templates of its own the model has such as ask for none.
    start = tmp_path / "start"
    shutil.copytree(bundled("tiny-start"), start)
    bare = start / "templates" / "no_principles"
    shutil.copytree(TINY_SHOWN / "no_principles", bare)
    rft.run(*change(other, start=str(start)))
    for row in lines(tmp_path / "run" / "chosen.jsonl"):
        assert "No criteria." in row["prompt"]
        assert row["completion"].startswith("Analysis:")
        assert "Specific Criteria" not in row["completion"]
    model = tmp_path / "run" / "model"
    assert (model / "templates" / "grm.txt").read_text() == (bare / "grm.txt").read_text()


def test_given_templates_are_taken_as_they_are(cfg, tmp_path):
    given = str(bundled("tiny") / "templates")
    assert rft.templates_of(*change(cfg, templates=given, principles=False)) == Path(given)


def test_judges_that_are_never_right_are_refused_with_counts(cfg, tmp_path):
    rows = [{"id": "a", "prompt": "What is 37+48?", "responses": ["85", "84"], "label": 0}]
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(map(json.dumps, rows)))
    text = "Specific Criteria: x\nAnalysis: y\nScores: \\boxed{1, 9}"
    judgment = {"sample": 0, "order": [0, 1], "principles": "x", "critique": "y"} | {
        "scores": [1, 9], "reason": None, "text": text, "tokens": 3, "logprob": 0.0
    }  # fmt: skip
    saved = tmp_path / "saved.jsonl"
    prompt = [{"role": "user", "content": rows[0]["prompt"]}]
    saved.write_text(json.dumps({**rows[0], "prompt": prompt, "judgments": [judgment]}) + "\n")
    other = change(
        cfg,
        output=str(tmp_path / "run"),
        items=(ItemsConfig(str(items)),),
        judge=JudgeConfig(samples=str(saved)),
        n_plain=1,
        n_hinted=0,
    )
    with pytest.raises(ValueError, match=r"not one of 1 judgments of 1 items .*'wrong': 1"):
        rft.run(*other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_plain": -1}, "n_plain is -1"),
        ({"general_share": 1.5}, "general_share is 1.5"),
        ({"general": ()}, "general names no data"),
        ({"n_plain": 0, "n_hinted": 0, "general_share": 0.0}, "no data"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_values_out_of_range_are_refused(cfg, changes, message):
    with pytest.raises(ValueError, match=message):
        change(cfg, **changes)
