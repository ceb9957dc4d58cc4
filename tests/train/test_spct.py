"""The whole of SPCT on a few items: killed in every stage, it ends with the same bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from grm_jax.evals.spct_stages import RL_CURVES
from grm_jax.metric_names import CORRECT, DRIFT, LOSS, TARGETS, TOKENS_PER_SECOND
from grm_jax.train import spct
from grm_jax.train.tracking import read_metrics
from tests.processes import QUICK
from tests.train.pairs import change, read

pytestmark = pytest.mark.slow  # `make test` runs the README's `grm train spct`

CONFIG = """
rft:
  items: [{limit: 24}]
  judge: {slots: 16}
  general: [{source: answers}]
  general_share: 0.2
  steps: 4
  batch: {sequences: 8, length: 128}
  checkpoint: {every: 2}
grpo:
  items: [{start: 100, limit: 24}]
  filter: {n: 2, judge: {slots: 16}}
  per_step: 16
  steps: 3
  slots: 16
  samples_every: 1
  checkpoint: {every: 2}
meta_rm:
  items: [{start: 200, limit: 16}]
  judge: {slots: 16}
  n: 4
  heldout_share: 0.4
  steps: 4
  batch: {sequences: 8, length: 128}
  checkpoint: {every: 2}
evaluation: {items: [{split: heldout, limit: 12}], k: 4, k_start: 2, slots: 16}
"""
# Runs once for each thing named, from a fork that costs no imports, and kills itself when that has
# happened so many times. Prints how each run ended.
CHILD = """
import json, multiprocessing, os, signal, sys
from grm_jax.cli.options import read_options
from grm_jax.cli.commands import STAGES
from grm_jax.judging.judge import Judge
from grm_jax.train import spct
from grm_jax.train.tracking import Tracker

log, sample, once, stage = Tracker.log, Judge.sample_all, spct.make_once, [""]

def run(kill):
    what, count = kill.rsplit(":", 1)
    left = int(count)

    def happened(name):
        nonlocal left
        left -= name == what
        if left == 0 and name == what:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched_log(self, step, numbers, samples):
        log(self, step, numbers, samples)
        happened(stage[0] + " step")

    def watched_sample(self, examples, k, *rest):
        for result in sample(self, examples, k, *rest):
            yield result
            happened(stage[0] + " sample")

    def watched_once(folder, inputs, make):
        stage[0] = folder.name
        return once(folder, inputs, make)

    Tracker.log, Judge.sample_all, spct.make_once = watched_log, watched_sample, watched_once
    spct.run(*read_options(STAGES["spct"], ["--config", sys.argv[1]], "train spct"))

ends = []
for kill in sys.argv[2:]:
    process = multiprocessing.get_context("fork").Process(target=run, args=(kill,))
    process.start()
    process.join()
    ends.append(process.exitcode)
print(json.dumps(ends))
"""
# Once in every stage, while it samples or while it trains.
KILLS = ("rft sample:30", "grpo step:3", "meta_rm step:3", "evaluation sample:20")
NEVER = "nothing:1"


@pytest.fixture(scope="module")
def make_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "spct.yaml"
    path.write_text(CONFIG)

    def make(output, *options):
        return read("spct", "--config", str(path), "--output", str(output), *options)

    return make


def run_apart(cfg, *kills):
    """How `spct.run` ended that was killed there, one run after another, and what they said.

    In processes of their own, on one device (programs for eight compile slowly).
    """
    output = Path(cfg.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.parent / f"{output.name}.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(cfg.settings()))))
    root = str(Path(spct.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), *kills],
        env={**os.environ, "PYTHONPATH": root, "XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def whole(make_config, tmp_path_factory):
    """A run that nothing interrupted."""
    cfg = make_config(tmp_path_factory.mktemp("spct") / "whole")
    ends, said = run_apart(cfg, NEVER)
    assert ends == [0], said[-3000:]
    return cfg


def timeless(rows):
    return [
        {k: v for k, v in row.items() if not k.startswith(("time/", "tokens_per_second"))}
        for row in rows
    ]


def results(output):
    """Every metric, every judgment and every weight."""
    output = Path(output)
    metrics = {
        str(path.relative_to(output)): timeless(read_metrics(path))
        for path in sorted(output.rglob("metrics.jsonl"))
    }
    files = {
        str(path.relative_to(output)): path.read_bytes()
        for pattern in ("*.safetensors", "samples*.jsonl", "filter.jsonl", "report.json",
                        "evaluation/*.jsonl", "chosen.jsonl", "rollouts.jsonl")
        for path in sorted(output.rglob(pattern))
    }  # fmt: skip
    return metrics, files


def test_a_run_leaves_a_model_per_stage_and_a_page(whole):
    output = Path(whole.output)
    metrics, files = results(output)
    assert set(metrics) == {"rft/rft/metrics.jsonl", "grpo/metrics.jsonl", "meta_rm/metrics.jsonl"}
    for stage in ("rft", "grpo", "meta_rm"):
        assert f"{stage}/model/model.safetensors" in files
    report = json.loads(files["evaluation/report.json"])
    assert list(report["stages"]) == ["start", "rft", "grpo"]
    assert set(report["stages"]["grpo"]["voting"]["guided"]) == {"1", "2", "4"}
    assert set(report["stages"]["rft"]["voting"]["guided"]) == {"1", "2", "4"}
    assert report["stages"]["start"]["voting"]["samples"] == 2 * report["items"]
    assert "MetaRM@k" in (output / "index.html").read_text()


def test_the_page_reads_what_the_stages_log(whole):
    """Every metric that the page draws or tells is in the stage's rows, under the same name."""
    metrics, _ = results(whole.output)
    rows = read_metrics(Path(whole.output) / "grpo" / "metrics.jsonl")
    names = {name for name, _, _ in RL_CURVES} | {TOKENS_PER_SECOND, DRIFT}
    assert all(set(row) >= names for row in rows)
    assert all(LOSS in row for row in metrics["rft/rft/metrics.jsonl"])
    for row in metrics["meta_rm/metrics.jsonl"]:
        assert 0 <= row[CORRECT] <= row[TARGETS] > 0
        assert LOSS in row


def test_killed_in_every_stage_it_ends_with_the_same_bits(whole, make_config, tmp_path):
    cfg = make_config(tmp_path / "killed")
    ends, said = run_apart(cfg, *KILLS, NEVER)
    assert ends == [-signal.SIGKILL] * len(KILLS) + [0], said[-3000:]
    found, wanted = results(cfg.output), results(whole.output)
    assert found[0] == wanted[0]
    assert set(found[1]) == set(wanted[1])
    assert [name for name, value in wanted[1].items() if found[1][name] != value] == []


def test_a_finished_run_does_nothing_again(whole, monkeypatch):
    before = results(whole.output)
    for stage in (spct.rft, spct.grpo, spct.meta_rm):
        monkeypatch.setattr(stage, "run", lambda run, cfg: pytest.fail(f"{run.output} ran again"))
    spct.run(*whole)
    assert results(whole.output) == before


def test_a_change_redoes_its_stage_and_those_after_it_and_deletes_nothing(whole, monkeypatch):
    ran = []
    for name in ("rft", "grpo", "meta_rm"):
        stage = getattr(spct, name)
        monkeypatch.setattr(stage, "run", lambda run, cfg, name=name: ran.append(name))
    meta = replace(whole.cfg.meta_rm, steps=5)
    assert spct.run(*change(whole, meta_rm=meta)) is None  # the scripted stage was "stopped"
    assert ran == ["meta_rm"]
    output = Path(whole.output)
    assert (output / "meta_rm.1" / "model").is_dir()
    # Put back what the change set aside, for the tests that share the run.
    for path in (output / "meta_rm").iterdir():
        path.unlink()
    (output / "meta_rm").rmdir()
    (output / "meta_rm.1").rename(output / "meta_rm")


def test_without_rl_and_meta_rm_the_pipeline_is_shorter(whole, make_config, tmp_path):
    """And shorter still where a longer one has left its first stage."""
    cfg = make_config(tmp_path / "short", "--grpo", "null", "--meta_rm", "null")
    output = Path(cfg.output)
    shutil.copytree(Path(whole.output) / "rft", output / "rft")
    ends, said = run_apart(cfg, NEVER)
    assert ends == [0], said[-3000:]
    assert f"{output / 'rft'} is there." in said
    report = json.loads((output / "evaluation" / "report.json").read_text())
    assert list(report["stages"]) == ["start", "rft"]
    assert (output / "index.html").is_file()
