"""Each experiment's own arithmetic, from samples made by hand."""

import json
from dataclasses import replace
from math import isnan

import pytest

from grm_jax.evals.experiments import (
    ablations,
    judges,
    k_meta,
    lengths,
    list_pair,
    principles,
    reference,
    scaling,
    size,
)
from grm_jax.evals.experiments.arms import Arm
from grm_jax.evals.experiments.config import Setting, named_judges
from grm_jax.evals.experiments.findings import incomplete, unanswered
from grm_jax.evals.experiments.measure import measure
from grm_jax.evals.experiments.setting import check_shows, templates_of
from grm_jax.evals.items import ITEMS
from grm_jax.evals.votes import Vote
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.folder import bundled
from grm_jax.judging.judgment import Refusal
from grm_jax.judging.samples import read_samples
from grm_jax.text.messages import Example
from grm_jax.text.prompts import NO_PRINCIPLES, without_principles

# Item 0: three right of four, the wrong one rated lowest. Item 1: one right of four, rated highest.
POOL = [
    [(9, 2.0), (9, 1.0), (9, 0.5), (1, -1.0)],
    [(9, 3.0), (4, 1.0), (4, 0.0), (4, -1.0)],
]


@pytest.fixture
def pool(tmp_path, write_samples):
    return write_samples(tmp_path / "pool.jsonl", POOL)


def cells(grid, row):
    """A row of a grid by column, without intervals."""
    found = next(r for r in grid.rows if r[0] == row)
    return {
        name: cell.split(" [")[0] for name, cell in zip(grid.columns[1:], found[1:], strict=True)
    }


def test_scaling(pool):
    sizes = [1, 2, 4]
    votes = [Vote(k, guided) for k in sizes for guided in (False, True)]
    found = scaling.findings([measure("m", ITEMS, pool, votes)], sizes)
    ours, paper = found.grids
    # One sample: 3/4 and 1/4. All four sum to 28 : 20, and to 21 : 20.
    assert cells(ours, "m, Voting@k")["k = 1"] == "50.0"
    assert cells(ours, "m, Voting@k")["k = 4"] == "100.0"
    assert cells(ours, "m, gain of MetaRM, paired")["k = 1"] == "+0.0"
    assert cells(ours, "m, tokens") == {"k = 1": "11", "k = 2": "22", "k = 4": "44"}
    assert cells(paper, "DeepSeek-GRM-27B") == {"k = 1": "67.9", "k = 8": "70.6", "k = 32": "71.0"}
    by_k, by_tokens, theirs = found.figures[0].panels
    assert [sorted(series.points) for series in by_k.series] == [[1, 2, 4]] * 2
    assert [sorted(series.points) for series in by_tokens.series] == [[11, 22, 44]] * 2
    assert {x: v.value for x, v in theirs.series[1].points.items()} == {1: 67.9, 8: 72.0, 32: 72.8}
    assert found.data["k"] == sizes


def test_keeping_all_samples_is_plain_voting(pool):
    kept = [1, 2, 4]
    votes = [Vote(4), *(Vote(4, True, m) for m in kept)]
    ours, paper = k_meta.findings([measure("m", ITEMS, pool, votes)], 4, kept).grids
    # The best one of each is right; the best two of item 1 sum to 13 : 10.
    assert set(cells(ours, "m").values()) == {"100.0"}
    assert cells(ours, "m, minus Voting@4, paired")["k_meta = 4"] == "+0.0"
    assert list(cells(paper, "DeepSeek-GRM-27B").values()) == ["71.5", "72.7", "72.8", "71.0"]


def test_k_meta_needs_meta_scores(tmp_path, write_samples):
    bare = write_samples(tmp_path / "bare.jsonl", [[(9, None)]])
    with pytest.raises(ValueError, match="m has no meta scores"):
        k_meta.findings([measure("m", ITEMS, bare, [Vote(1)])], 1, [1])
    with pytest.raises(ValueError, match="give a meta_rm"):
        k_meta.KMetaConfig(meta_rm=None)


@pytest.fixture
def two_arms(tmp_path, write_samples, pool):
    other = write_samples(tmp_path / "other.jsonl", [[(9, None)] * 4, [(9, None)] * 4])
    vote = Vote(1)
    return [
        Arm("first", measure("first", ITEMS, pool, [vote]), vote),
        Arm("second", measure("second", ITEMS, other, [vote]), vote),
    ]


@pytest.mark.parametrize("module", [list_pair, judges, principles])
def test_arms_are_held_against_the_first(module, two_arms):
    found = {
        list_pair: lambda: list_pair.findings(two_arms),
        judges: lambda: judges.findings(two_arms, 1),
        principles: lambda: principles.findings([two_arms]),
    }[module]()
    told = cells(found.grids[0], "second")
    assert told["accuracy"] == "100.0"
    assert told["minus first, paired"] == "+50.0"
    assert cells(found.grids[0], "first")["minus first, paired"] == ""
    json.dumps(found.data, allow_nan=False)


def test_reference_keeps_each_model_beside_itself(tmp_path, write_samples, pool):
    told = write_samples(tmp_path / "told.jsonl", [[(9, None)] * 4] * 2)
    votes = [Vote(1), Vote(4), Vote(4, True)]
    found = reference.findings(
        [measure("m", ITEMS, pool, votes), measure("m w/ Reference", ITEMS, told, votes)], 4
    )
    assert [row[0] for row in found.grids[0].rows] == [
        "m, k = 1",
        "m, Voting@4",
        "m, MetaRM@4",
        "m w/ Reference, k = 1",
        "m w/ Reference, Voting@4",
    ]
    assert cells(found.grids[0], "m w/ Reference, k = 1")["minus m, k = 1, paired"] == "+50.0"
    assert cells(found.grids[1], "w/ Reference") == {"accuracy": "91.6"}


def test_filtered_principles_are_those_of_a_right_judgment(tmp_path, write_samples):
    rows = [[(1, None), (9, None)], [(1, None), (2, None)], [(None, None), (9, None)]]
    path = write_samples(tmp_path / "s.jsonl", rows)
    samples = [*read_samples(path), Refusal("item-9", "too long")]
    written = principles.principles_of(samples)
    assert written.first == {"item-0": "p0", "item-1": "p0", "item-2": "p1"}
    assert written.filtered == {"item-0": "p1", "item-1": "p0", "item-2": "p1"}


def test_rows_are_shown_with_the_principles_of_their_id():
    rows = [Example("q", ["a", "b"], str(i), label=0) for i in range(2)]
    bench = principles.shown_with(replace(ITEMS, read=lambda data: iter(rows)), {"1": "be brief"})
    assert [row.principles for row in bench.read(None)] == [None, "be brief"]


def test_templates_without_principles_lie_beside_the_own_ones(tmp_path):
    with pytest.raises(ValueError, match=r"the prompt of tiny has no place for \{reference\}"):
        check_shows({"tiny": JudgeConfig(model="tiny")}, "reference")
    check_shows({"far": JudgeConfig(samples="x")}, "principles")  # the built-in prompt has one
    with pytest.raises(ValueError, match="all ask for principles"):
        without_principles(templates_of(JudgeConfig(model="tiny")))
    (tmp_path / "no_principles").mkdir()
    own = templates_of(JudgeConfig(model="tiny", templates=str(tmp_path)))
    assert without_principles(own) == tmp_path / "no_principles"
    assert without_principles(templates_of(JudgeConfig(samples="x"))) == NO_PRINCIPLES


def test_sizes_are_in_the_order_of_parameters(pool):
    assert size.parameters("tiny") == 570_496
    votes = [Vote(1), Vote(4)]
    small, large = (measure(name, ITEMS, pool, votes) for name in ("small", "large"))
    found = size.findings([(1000, small), (8000, large)], [1, 4])
    assert [row[:2] for row in found.grids[0].rows] == [("small", "1,000"), ("large", "8,000")]
    by_k, by_size = found.figures[0].panels
    assert [series.label for series in by_k.series] == ["small, 1K", "large, 8K"]
    assert [sorted(series.points) for series in by_size.series] == [[1000, 8000]] * 2
    theirs = {series.label: series.points for series in found.figures[1].panels[1].series}
    assert theirs["RL line"][671].value == 88.4
    with pytest.raises(ValueError, match="its size is not known"):
        size.SizeConfig(models=(), judges={"far": JudgeConfig(samples="x")})


def test_size_runs_on_its_defaults_with_what_is_there(tmp_path, monkeypatch):
    """And says how the other models are made."""
    monkeypatch.chdir(tmp_path)
    there, told = size.made(size.SizeConfig())
    assert there.models == ("tiny-start",)
    assert "grm train sft --config" in told[0]
    assert "--start new:tiny-quarter --output runs/size/tiny-quarter" in told[0]
    assert len(told) == 2
    (tmp_path / "runs/size/tiny-half/model").mkdir(parents=True)
    there, told = size.made(size.SizeConfig())
    assert there.models == ("runs/size/tiny-half/model", "tiny-start")
    assert len(told) == 1
    own = size.SizeConfig(models=("mine/model",))
    assert size.made(own) == (own, [])  # what one names oneself must be there


def test_an_experiment_says_what_was_not_answered(tmp_path, write_samples):
    down = {"id": "x", "error": "the server is down.", "row": {"subset": "rows"}}
    path = write_samples(tmp_path / "m" / "samples.jsonl", POOL)
    path.write_text(path.read_text() + json.dumps(down) + "\n")
    write_samples(tmp_path / "whole" / "samples.jsonl", POOL)
    found = judges.findings([Arm("m", measure("m", ITEMS, path, [Vote(1)]), Vote(1))] * 2, 1)
    assert "incomplete: 1 row had no answer" in found.text[1] + found.grids[0].caption
    lacking = unanswered(tmp_path)
    assert lacking == {"m": (1, "the server is down.")}
    said = incomplete(found, lacking)
    assert said.title.endswith("(incomplete)")
    assert said.grids[0].caption.startswith("Incomplete. ")
    assert "1 row had no answer from m" in said.text[0]
    assert said.data["unanswered"] == {"m": 1}
    assert incomplete(found, {}) == found


def test_lengths_by_section(tmp_path, write_samples):
    path = write_samples(tmp_path / "s.jsonl", POOL, subset="hep-go", ask="")
    by_section = lengths.lengths(read_samples(path), "subset")
    assert list(by_section) == ["Reasoning"]  # RewardBench's subsets by section
    assert by_section["Reasoning"].value == 11
    assert list(lengths.lengths(read_samples(path), "ask")) == ["no ask"]
    alone = write_samples(tmp_path / "one.jsonl", POOL[:1], subset="hep-go")
    one = lengths.lengths(read_samples(alone), "subset")["Reasoning"]
    assert (one.value, isnan(one.low), isnan(one.high)) == (11, True, True)
    with pytest.raises(ValueError, match="no 'kind' in its meta; there are subset, ask"):
        lengths.lengths(read_samples(path), "kind")
    found = lengths.findings({"before": by_section, "after": by_section})
    assert cells(found.grids[0], "before") == {"Reasoning": "11"}
    assert cells(found.grids[1], "DeepSeek-GRM-27B")["Reasoning"] == "376"


def test_ablations_from_run_folders(tmp_path, write_samples):
    def make(name, right, stages):
        folder = tmp_path / name / "evaluation"
        for stage in stages:
            write_samples(folder / f"{stage}.jsonl", POOL)
            write_samples(folder / f"{stage}_greedy.jsonl", [[(9, None)], [(right, None)]])
        report = {"k": 4, "stages": {"start": {}} | {stage: {} for stage in stages}}
        (folder / "report.json").write_text(json.dumps(report))
        return str(tmp_path / name)

    runs = {"full": make("a", 9, ["rft", "grpo"]), "no-hinted": make("b", 1, ["rft"])}
    found = ablations.run(ablations.AblationsConfig(runs), tmp_path)
    rft, grpo, _ = found.grids
    assert [row[0] for row in rft.rows] == ["full", "no-hinted"]
    assert [row[0] for row in grpo.rows] == ["full"]
    assert grpo.rows[0][-1] == "69.9"
    assert [row[-1] for row in rft.rows] == ["68.8", "68.0"]
    # Of two greedy judgments the second is wrong.
    assert [cell.split(" [")[0] for cell in rft.rows[1][1:5]] == ["50.0", "-50.0", "50.0", "+0.0"]
    assert rft.columns[1::2] == ("greedy", "one sample", "Voting@4", "MetaRM@4", "the paper's")
    rft_panel, grpo_panel = found.figures[0].panels
    assert rft_panel.names == ("full", "no-hinted")
    assert [series.label for series in grpo_panel.series] == list(rft.columns[1:8:2])
    told = {arm["arm"]: arm["difference_to_first"] for arm in found.data["rft"]["greedy"]}
    assert told["full"] is None
    assert told["no-hinted"]["value"] == -50
    with pytest.raises(FileNotFoundError, match="no finished evaluation"):
        ablations.read_run("full", tmp_path)


def test_every_line_of_ours_names_a_line_of_the_papers():
    printed = {row["method"] for row in ablations.paper.table("table04_ablation_overall")}
    assert set(ablations.PAPER.values()) <= printed


def test_judges_need_names_of_their_own():
    setting = Setting(models=("runs/a/model", "tiny"), judges={"far": JudgeConfig(samples="x")})
    assert list(named_judges(setting)) == ["a", "tiny", "far"]
    with pytest.raises(ValueError, match="two judges are called 'tiny'"):
        Setting(models=("tiny", str(bundled("tiny"))))
    with pytest.raises(ValueError, match="there is no benchmark 'mars'"):
        Setting(benchmark="mars")
    with pytest.raises(ValueError, match="there is no judge"):
        Setting(models=())
