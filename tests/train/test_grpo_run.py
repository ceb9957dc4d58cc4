"""Runs of GRPO: settings, what is logged and kept, and the same bits after a stop or a kill."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grm_jax.mesh import MeshConfig
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.presets import bundled
from grm_jax.text.parse import parse_choice
from grm_jax.train import grpo
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.grpo import Rollouts
from grm_jax.train.stages.grpo import FilterConfig
from grm_jax.train.tracking import read_metrics
from tests.devices import one_device
from tests.train.pairs import change
from tests.train.policies import small_grpo

TRL_NAMES = {
    "reward", "reward_std", "frac_reward_zero_std", "kl", "entropy", "clip_ratio/low_mean",
    "clip_ratio/high_mean", "completions/mean_length", "completions/min_length",
    "completions/max_length", "completions/clipped_ratio", "num_tokens",
}  # fmt: skip


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return small_grpo(tmp_path_factory.mktemp("grpo"))


@pytest.mark.slow
def test_a_run_logs_trls_names_and_keeps_judgments_to_be_read(cfg):
    with one_device():
        folder = grpo.run(*cfg)
    output = Path(cfg.output)
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(set(row) >= TRL_NAMES for row in rows)
    assert max(row["sampling/logprob_drift"] for row in rows) < 1e-4
    assert [row["train/skipped"] for row in rows] == [0, 0, 0]
    assert np.diff([0, *(row["num_tokens"] for row in rows)]).tolist() == [
        row["data/tokens"] for row in rows
    ]
    kept = [json.loads(line) for line in (output / "rollouts.jsonl").read_text().splitlines()]
    assert {row["step"] for row in kept} == {1, 3}
    assert all(row["text"] and row["reward"] in (1.0, -1.0) for row in kept)
    assert folder == output / "model"


@pytest.mark.slow
def test_with_overlap_a_killed_and_a_stopped_run_end_with_the_same_bits(cfg, tmp_path, monkeypatch):
    """The stopped one has a checkpoint between two that are due."""
    small = change(
        cfg,
        start="new:tiny-quarter",
        tokenizer=str(bundled("tiny")),
        templates=str(bundled("tiny") / "templates"),
        overlap=True,
        per_step=8,
        steps=4,
        max_new_tokens=8,
        loss=GRPOLossConfig(beta=0.0),
    )
    by_text = lambda example, judgments: [len(set(j.text)) % 2.0 for j in judgments]  # noqa: E731

    def trained(name):
        with one_device():
            return grpo.run(*change(small, output=str(tmp_path / name)), by_text)

    def stopped(self, params, step):
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, params, step)

    whole = trained("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for made in ("model", "checkpoints/4"):  # what is not there yet after a kill in step 4
        shutil.rmtree(tmp_path / "parts" / made)
    draw = Rollouts.draw
    with monkeypatch.context() as patch:
        patch.setattr(Rollouts, "draw", stopped)
        assert trained("parts") is None
    assert sorted(p.name for p in (tmp_path / "parts" / "checkpoints").iterdir()) == ["2", "3"]
    parts = trained("parts")
    weights = "model.safetensors"
    assert (parts / weights).read_bytes() == (whole / weights).read_bytes()
    rows, expected = (
        [
            {name: x for name, x in row.items() if not name.startswith(("time/", "tokens_per"))}
            for row in read_metrics(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("parts", "whole")
    )
    assert rows == expected
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert min(row["train/grad_norm"] for row in rows) > 0


@pytest.mark.slow
def test_a_judge_is_trained_on_pairs_alone_and_says_what_it_is(cfg, tmp_path):
    other = change(cfg, kind="judge", steps=1, samples_every=1, output=str(tmp_path))
    with one_device():
        folder = grpo.run(*other)
    kept = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert len(kept) == 16
    for row in kept:
        assert len(row["responses"]) == 2
        choice = parse_choice(row["text"], 2).index
        assert row["reward"] == (1.0 if choice == row["label"] else -1.0)
    assert json.loads((folder / "grm.json").read_text())["kind"] == "judge"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 0}, "group is 0"),
        ({"reward": "none"}, "reward is 'none'; give one of rule"),
        ({"per_step": 6}, "per_step is 6 outputs in groups of 4"),
        ({"steps": 0}, "steps is 0"),
        ({"filter": None}, None),
    ],
)
def test_values_out_of_range_are_refused(cfg, changes, message):
    if message is None:
        with pytest.raises(ValueError, match="temperature is 0"):
            change(cfg, strategy=replace(cfg.cfg.strategy, temperature=0.0))
        with pytest.raises(ValueError, match=r"filter\.n is -1"):
            FilterConfig(n=-1)
        return
    with pytest.raises(ValueError, match=message):
        change(cfg, **changes)


def test_micro_batches_cut_between_prompts(cfg, tmp_path):
    compute = ComputeConfig(MeshConfig(1, 1, 1), microbatches=3)
    with one_device(), pytest.raises(ValueError, match=r"prompts is 4, .* a multiple of 3"):
        grpo.run(*change(cfg, compute=compute, output=str(tmp_path)))


def test_a_batch_counts_outputs_or_prompts(cfg):
    assert replace(cfg.cfg, per_step=16).prompts == 4
    assert replace(cfg.cfg, per_step=16, per_step_unit="prompts").prompts == 16
