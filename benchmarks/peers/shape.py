"""The model that all rows load, the prompt and the batch that all of them are given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAD, EOS, BOS = 0, 1, 2  # never in a prompt, and forbidden where a peer would stop at one
FIRST = 10  # the first ordinary token
TEMPERATURE = 0.5
NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
# The deviations of random weights: with those of an initialisation logits would all be alike, and
# no difference between two programs would show.
SPREAD = {
    "self_attn.q_proj": 0.06,
    "self_attn.k_proj": 0.06,
    "self_attn.v_proj": 0.04,
    "self_attn.o_proj": 0.04,
    "mlp.gate_proj": 0.04,
    "mlp.up_proj": 0.04,
    "mlp.down_proj": 0.02,
}


@dataclass(frozen=True)
class Shape:
    """Gemma-2's numbers, under Hugging Face's names."""

    vocab_size: int
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    query_pre_attn_scalar: int
    sliding_window: int
    attn_logit_softcapping: float = 50.0
    final_logit_softcapping: float = 30.0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    max_position_embeddings: int = 8192
    dtype: str = "float32"

    def config(self) -> dict[str, Any]:
        """Its config.json."""
        return asdict(self) | {
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "hidden_activation": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
            "pad_token_id": PAD,
            "eos_token_id": EOS,
            "bos_token_id": BOS,
        }


SHAPES = {
    "tiny": Shape(512, 2, 64, 128, 4, 2, 16, 16, 16),  # to see that all works
    "small": Shape(32_768, 6, 512, 2048, 8, 4, 64, 64, 128),
    "2b": Shape(256_000, 26, 2304, 9216, 8, 4, 256, 256, 4096, dtype="bfloat16"),
    "9b": Shape(256_000, 42, 3584, 14_336, 16, 8, 256, 256, 4096, dtype="bfloat16"),
}


def tensor_shapes(shape: Shape) -> dict[str, tuple[tuple[int, ...], float]]:
    """Each tensor's dimensions, by Hugging Face's name, and the deviation of its numbers."""
    wide, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    sizes = {
        "self_attn.q_proj": (queries, wide),
        "self_attn.k_proj": (keys, wide),
        "self_attn.v_proj": (keys, wide),
        "self_attn.o_proj": (wide, queries),
        "mlp.gate_proj": (inner, wide),
        "mlp.up_proj": (inner, wide),
        "mlp.down_proj": (wide, inner),
    }
    tensors: dict[str, tuple[tuple[int, ...], float]] = {
        "model.embed_tokens.weight": ((shape.vocab_size, wide), 0.05),
        "model.norm.weight": ((wide,), 0.1),
    }
    for layer in range(shape.num_hidden_layers):
        name = f"model.layers.{layer}."
        tensors |= {f"{name}{part}.weight": (sizes[part], SPREAD[part]) for part in sizes}
        tensors |= {f"{name}{norm}.weight": ((wide,), 0.1) for norm in NORMS}
    return tensors


def write_model(shape: Shape, folder: Path) -> Path:
    """A folder with config.json and model.safetensors: random, and always the same."""
    if (folder / "config.json").exists():
        return folder
    import ml_dtypes
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    dtype = np.float32 if shape.dtype == "float32" else ml_dtypes.bfloat16
    tensors = {
        name: (spread * rng.standard_normal(size, dtype=np.float32)).astype(dtype)
        for name, (size, spread) in tensor_shapes(shape).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=1))
    return folder


def read_model(folder: str) -> tuple[Shape, dict[str, np.ndarray]]:
    """The shape, and the tensors by name."""
    import ml_dtypes  # noqa: F401  so that numpy knows bfloat16
    from safetensors.numpy import load_file

    config = json.loads(Path(folder, "config.json").read_text())
    fields = {name: config[name] for name in Shape.__dataclass_fields__}
    return Shape(**fields), load_file(Path(folder, "model.safetensors"))


def prompt(shape: Shape, length: int, seed: int = 0) -> np.ndarray:
    """[length] tokens, others for each seed: nobody has them prefilled from the time before."""
    rng = np.random.default_rng([1, seed])
    return rng.integers(FIRST, shape.vocab_size, length, dtype=np.int32)


@dataclass(frozen=True)
class Batch:
    """One update's input: `prompts` [P, S], `completions` [P, G, T], `advantage` [P, G] and the
    reference's log-probabilities [P, G, T]."""

    prompts: np.ndarray
    completions: np.ndarray
    advantage: np.ndarray
    reference: np.ndarray

    @property
    def each(self) -> np.ndarray:
        """[P x G, S]: the prompt of each completion."""
        return np.repeat(self.prompts, self.completions.shape[1], axis=0)

    @property
    def answers(self) -> np.ndarray:
        """[P x G, T]."""
        return self.completions.reshape(-1, self.completions.shape[2])

    @property
    def rows(self) -> np.ndarray:
        """[P x G, S + T]: each completion behind its prompt."""
        return np.concatenate([self.each, self.answers], axis=1)


def read_batch(path: str) -> Batch:
    """What `grm_jax.bench.updates.draw_tokens` drew, as it was saved."""
    return Batch(**np.load(path))
