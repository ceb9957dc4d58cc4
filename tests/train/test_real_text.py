"""SPCT on real text: pairs and single solutions, a random small Gemma-2, the 16k tokenizer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from grm_jax.data.config import ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.data.sources import BadRow, load_examples
from grm_jax.judging.asking import read_judgment
from grm_jax.judging.folder import bundled
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.samples import to_json
from grm_jax.models import hf
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.tracking import read_metrics
from tests.processes import QUICK

TEMPLATES = bundled("tiny") / "templates"
ROOT = Path(__file__).resolve().parents[2]
CHILD = "import sys; from grm_jax.cli import main; sys.exit(main(sys.argv[1:]))"
SHORT = 620  # characters of prompt and responses together
CONFIG = """
start: {start}
templates: {templates}
rft:
  items: [{{source: {pairs}}}, {{source: {single}}}]
  judge: {{samples: {saved}}}
  n_hinted: 0
  general: [{{source: {general}}}]
  general_share: 0.1
  steps: 40
  batch: {{sequences: 2, length: 256}}
  optimizer: {{learning_rate: 1.0e-2, warmup_steps: 5}}
  export: {{max_new_tokens: 40}}
grpo:
  items: [{{source: {pairs}}}, {{source: {single}}}]
  filter: {{n: 1, judge: {{slots: 8}}}}
  per_step: 16
  steps: 2
  slots: 16
meta_rm:
  items: [{{source: {pairs}}}]
  judge: {{slots: 8}}
  n: 2
  heldout_share: 0.3
  steps: 3
  batch: {{sequences: 8, length: 256}}
evaluation: {{items: [{{source: {pairs}}}], k: 2, k_start: 1, slots: 8}}
"""


def size(example):
    return len(example.prompt[-1].content) + sum(map(len, example.responses))


@pytest.fixture(scope="module")
def pairs(shared_data):
    rows = load_examples(str(shared_data / "ultrafeedback_binarized_sample" / "train_clean.jsonl"))
    return [row for row in rows if not isinstance(row, BadRow) and size(row) < SHORT][:8]


@pytest.fixture(scope="module")
def single(shared_data):
    """Solutions of grade-school problems, one by one, with whether they are right."""
    rows = load_examples(str(shared_data / "gsm8k" / "example_model_solutions.jsonl"))
    found = []
    for row in rows:
        if isinstance(row, BadRow):
            continue
        for i, (response, score) in enumerate(zip(row.responses, row.scores, strict=True)):
            example = Example(row.prompt, [response], f"{row.id}/{i}", label=int(score))
            if size(example) < SHORT and len(found) < 8:
                found.append(example)
    return found


def judgments(example, rng):
    """Three judgments in the paper's form by a judge who is right about half of the time."""
    templates = load_templates(TEMPLATES)
    found = []
    for sample in range(3):
        order = tuple(rng.permutation(example.n).tolist())
        guess = int(rng.integers(2))
        if example.n == 1:
            scores, template = [guess], templates.single
        else:
            scores, template = [9 if i == guess else 2 for i in range(example.n)], templates.grm
        box = ", ".join(map(str, scores))
        text = f"Specific Criteria: help (9)\nAnalysis: read. Scores: \\boxed{{{box}}}"
        found.append(read_judgment(text, template, sample=sample, order=order, tokens=20))
    return Sampled(example, tuple(found))


@pytest.fixture(scope="module")
def cfg(shared_data, pairs, single, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    tokenizer = Tokenizer.load(shared_data / "tokenizer" / "gemma2_layout_standin_16k_hf")
    config = Gemma2Config(tokenizer.vocab_size, 2, 32, 64, 2, 1, 16, 16.0, 64, max_position=1024)
    model = Model(config)
    params = jax.jit(model.init)(jax.random.key(0))
    hf.save_folder(model, params, folder / "start", tokenizer=tokenizer)
    # A model that has learned nothing does not stop by itself either.
    (folder / "start" / "grm.json").write_text('{"max_new_tokens": 40}')
    for name, examples in (("pairs", pairs), ("single", single)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for example in examples:
                row = to_json(Sampled(example, ()))
                file.write(json.dumps({k: v for k, v in row.items() if k != "judgments"}) + "\n")
    rng = np.random.default_rng(0)
    files = tuple(ItemsConfig(str(folder / f"{name}.jsonl")) for name in ("pairs", "single"))
    with (folder / "saved.jsonl").open("w") as file:
        for example in load_items(files, 0):
            file.write(json.dumps(to_json(judgments(example, rng))) + "\n")
    general = shared_data / "gsm8k" / "train.jsonl"
    rows = [json.loads(line) for line in general.read_text().splitlines()[:50]]
    with (folder / "general.jsonl").open("w") as file:
        for row in rows:
            file.write(json.dumps({"prompt": row["question"], "completion": row["answer"]}) + "\n")
    path = folder / "spct.yaml"
    names = {name: folder / f"{name}.jsonl" for name in ("pairs", "single", "saved", "general")}
    path.write_text(CONFIG.format(start=folder / "start", templates=TEMPLATES, **names))
    return ["train", "spct", "--config", str(path), "--output", str(folder / "run")]


@pytest.mark.slow
def test_every_stage_runs_on_real_text(cfg, pairs, single):
    # In a process of its own, on one device: programs for eight compile slowly.
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *cfg],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    output = Path(cfg[-1])
    assert "<svg" in (output / "index.html").read_text()
    report = json.loads((output / "rft" / "report.json").read_text())
    assert report["items"] == len(pairs) + len(single) == 16
    assert set(report["by_responses"]) == {"1", "2"}
    assert sum(report["plain"].values()) == 16 * 3
    assert report["plain"]["chosen"] > 8
    loss = [row["train/loss"] for row in read_metrics(output / "rft" / "rft" / "metrics.jsonl")]
    assert np.mean(loss[-5:]) < loss[0] / 2
    rows = read_metrics(output / "grpo" / "metrics.jsonl")
    assert len(rows) == 2
    assert max(row["sampling/logprob_drift"] for row in rows) < 1e-4
    meta = json.loads((output / "meta_rm" / "report.json").read_text())
    assert 0 < meta["train"]["right_share"] < 1
    assert meta["heldout"]["judgments"] > 0
    result = json.loads((output / "evaluation" / "report.json").read_text())
    assert result["items"] == len(pairs)
    for stage in ("rft", "grpo", "meta_rm"):
        assert (output / stage / "model" / "model.safetensors").is_file()
