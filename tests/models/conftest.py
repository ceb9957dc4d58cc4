"""Random small Gemma-2 checkpoints made by transformers, the reference of these tests.

Weights are large enough, and caps and window small enough, that each of them changes the result:
`test_conformance.py` proves it by breaking them one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from grm_jax.models.hf import save_folder
from grm_jax.models.model import Model
from tests.models.folders import SMALL, random_params

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other

WINDOW = 8
HEAD_DIM = 16
SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": HEAD_DIM,
    "query_pre_attn_scalar": HEAD_DIM,
    "sliding_window": WINDOW,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 4.0,
    "rms_norm_eps": 1e-2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 3000.0},
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
MakeHF = Callable[..., tuple[Any, Path]]


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Norm offsets of 0.3, matrices that keep the size of what they multiply times two."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            scale = 0.3 if weight.ndim == 1 else 2.0 / weight.shape[-1] ** 0.5
            if "embed_tokens" in name:
                scale = 0.5
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))


@pytest.fixture(scope="session")
def make_hf(tmp_path_factory: pytest.TempPathFactory) -> MakeHF:
    """make_hf("causal" | "score", seed=0, **config) -> (transformers' model, its folder)."""

    def make(kind: str = "causal", *, seed: int = 0, dtype=torch.float32, **changes: Any):
        numbers = {**SIZES, **changes, **({"num_labels": 1} if kind == "score" else {})}
        settings = transformers.Gemma2Config(**numbers, attn_implementation="eager")
        classes = {
            "causal": transformers.Gemma2ForCausalLM,
            "score": transformers.Gemma2ForSequenceClassification,
        }
        module = classes[kind](settings).eval()
        randomise(module, seed)
        module = module.to(dtype)
        folder = tmp_path_factory.mktemp(kind)
        module.save_pretrained(folder)
        return module, folder

    return make


@pytest.fixture(scope="session")
def rows() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """rows(lengths, padding) -> tokens, positions [B, max length]; -1 and token 0 on padding."""

    def make(lengths: list[int], padding: str = "right", seed: int = 0):
        rng = np.random.default_rng(seed)
        width = max(lengths)
        tokens, positions = np.zeros((2, len(lengths), width), np.int32)
        positions[:] = -1
        for row, length in enumerate(lengths):
            at = slice(0, length) if padding == "right" else slice(width - length, width)
            tokens[row, at] = rng.integers(1, SIZES["vocab_size"], length)
            positions[row, at] = np.arange(length)
        return tokens, positions

    return make


@pytest.fixture(scope="session")
def run_hf() -> Callable[..., Any]:
    """run_hf(module, tokens, positions) -> transformers' output, hidden states included."""

    def run(module: Any, tokens: np.ndarray, positions: np.ndarray) -> Any:
        with torch.no_grad():
            return module(
                input_ids=torch.tensor(tokens, dtype=torch.long),
                attention_mask=torch.tensor(positions >= 0, dtype=torch.long),
                position_ids=torch.tensor(np.maximum(positions, 0), dtype=torch.long),
                output_hidden_states=True,
            )

    return run


@pytest.fixture(scope="session")
def error_of() -> Callable[..., float]:
    """error_of(ours, theirs) -> largest difference, relative to the root mean square of theirs."""

    def error(ours: Any, theirs: Any) -> float:
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        return float(np.abs(ours - theirs).max() / np.sqrt(np.mean(theirs**2)))

    return error


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Model, Any]:
    """A small exported folder, its model and its weights."""
    model = Model(SMALL)
    params = random_params(model)
    save_folder(model, params, tmp_path / "model")
    return tmp_path / "model", model, params
