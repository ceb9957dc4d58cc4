"""`grm export`: folders to publish, and what their cards say."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest
import yaml

from grm_jax import cli
from grm_jax.judging.folder import load_model_folder
from grm_jax.models import hf
from grm_jax.models.adapter import Adapter
from grm_jax.models.adapter_files import write_adapter
from grm_jax.models.hf_folder import ADAPTER
from grm_jax.outputs import Made, claimed_folder
from grm_jax.presets import bundled
from grm_jax.train.card import model_card, read_record

SETTINGS = {
    "output": "runs/mine",
    "start": "google/gemma-2-2b-it",
    "seed": 7,
    "steps": 900,
    "adapter": {"rank": 2, "alpha": 4.0, "targets": None},
    "optimizer": {"learning_rate": 1e-4},
    "items": [{"source": "preferences.jsonl", "split": "train"}],
    "judge": {"model": "elsewhere"},
    "tracking": {"project": "secret-project"},
}


@pytest.fixture
def run(tmp_path):
    """A run's folder with its record, and an adapter for the bundled model as its result."""
    folder = tmp_path / "mine"
    with claimed_folder(folder, Made("grm train grpo", SETTINGS)):
        pass
    (folder / "metrics.jsonl").write_text('{"step": 899, "kl": 1}\n{"step": 900, "kl": 0.25}\n')
    model, _ = hf.load_folder(bundled("tiny"))
    adapter = Adapter(model, 2, 4.0, ("q_proj",))
    trained = jax.tree.map(lambda x: 0.01 + x, adapter.init(jax.random.key(0)))
    (folder / "model").mkdir()
    write_adapter(folder / "model", adapter, trained, str(bundled("tiny")))
    shutil.copyfile(bundled("tiny") / "grm.json", folder / "model" / "grm.json")
    return folder


def card_of(folder):
    text = (folder / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_a_run_with_an_adapter_and_the_same_merged(run, tmp_path, capsys):
    output = tmp_path / "adapter"
    assert cli.main(["export", "--model", str(run), "--output", str(output)]) == 0
    assert "holds the adapter and its card" in capsys.readouterr().err
    assert (output / "tokenizer.json").is_file()  # the base's, where it has none of its own
    head, body = card_of(output)
    assert (head["library_name"], head["pipeline_tag"]) == ("peft", "text-generation")
    for fact in ("`grm train grpo`", "`google/gemma-2-2b-it`", "`preferences.jsonl` (train)",
                 "| steps | 900 |", "| seed | 7 |", "LoRA of rank 2, alpha 4", "kl: 0.25",
                 f"jax {jax.__version__}", "learning_rate: 0.0001"):  # fmt: skip
        assert fact in body, fact
    assert "secret-project" not in body
    merged = tmp_path / "merged"
    arguments = ["export", "--model", str(run / "model"), "--output", str(merged)]
    assert cli.main([*arguments, "--merge-adapter", "true"]) == 0
    assert cli.main([*arguments, "--merge-adapter", "true"]) == 0  # and over itself
    assert not (merged / ADAPTER).exists()
    assert not (merged / ".part").exists()
    head, body = card_of(merged)
    assert (head["library_name"], head["base_model"]) == ("transformers", SETTINGS["start"])
    assert "| seed | 7 |" in body  # found in the folder above
    one, other = (load_model_folder(folder) for folder in (output, merged))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert one.tokenizer.sha256 == other.tokenizer.sha256
    assert one.max_new_tokens == other.max_new_tokens == 80


def test_bundled_models_with_their_templates_and_what_they_are(tmp_path):
    for name, kind in (("tiny", "text-generation"), ("tiny-meta", "text-classification")):
        output = tmp_path / name
        assert cli.main(["export", "--model", name, "--output", str(output)]) == 0
        written = {path.name for path in output.iterdir()}
        assert {"config.json", "generation_config.json", "tokenizer_config.json"} <= written
        assert (output / "templates").is_dir() == (bundled(name) / "templates").is_dir()
        jax.tree.map(
            np.testing.assert_array_equal,
            hf.load_folder(output)[1],
            hf.load_folder(bundled(name))[1],
        )
        head, body = card_of(output)
        assert head["pipeline_tag"] == kind
        assert "is not recorded" in body
    config = json.loads((tmp_path / "tiny-meta" / "config.json").read_text())
    assert (config["problem_type"], config["num_labels"]) == ("regression", 1)
    assert "--meta-rm tiny-meta" in body


def test_what_cannot_be_exported_is_a_sentence(run, tmp_path, capsys):
    shutil.copytree(run / "model", tmp_path / "spct" / "grpo" / "model")
    shutil.rmtree(run / "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("x")
    for model, output, words in (
        (run, "a", "a run that has written no model yet"),
        (tmp_path / "spct", "b", "holds several models: give one of"),
        (tmp_path / "empty", "c", "is neither a model folder"),
        ("tiny", "full", "holds diary.txt, but no export.yaml of grm export"),
    ):
        arguments = ["export", "--model", str(model), "--output", str(tmp_path / output)]
        assert cli.main(arguments) == 2
        assert words in capsys.readouterr().err


def test_the_card_of_stages_names_each(tmp_path):
    settings = {
        "seed": 0,
        "stages": {
            "warm": {"steps": 3, "optimizer": {"learning_rate": 0.1}, "data": [{"source": "a"}]},
            "last": {"steps": 4, "optimizer": {"learning_rate": 0.2}, "data": [{"source": "b"}]},
        },
    }
    with claimed_folder(tmp_path, Made("grm train sft", settings)):
        pass
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "metrics.jsonl").write_text('{"step": 4, "train/loss": 0.5}\n')
    text = model_card("mine", "judge", None, read_record(tmp_path))
    for fact in ("| steps | 3 (warm), 4 (last) |", "| learning rate | 0.1, 0.2 |",
                 "| learned from | `a`; `b` |", "train/loss: 0.5"):  # fmt: skip
        assert fact in text
    assert read_record(tmp_path / "last") is None
