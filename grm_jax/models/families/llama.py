"""Llama 3 (arXiv 2407.21783) and older: full attention, two norms a layer, SiLU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from grm_jax.models.family import PROJECTIONS, SIZES, TWO_NORMS, Family, Number
from grm_jax.models.hf_rope import both_versions, read_rope
from grm_jax.models.spec import (
    Attention,
    GatedMLP,
    LayerSpec,
    Llama3Scaling,
    ModelSpec,
    Norm,
    Rope,
    Segment,
)

ROPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class LlamaConfig:
    """Everything that fixes the shapes and the arithmetic of a Llama trunk.

    Raises:
        ValueError: heads that do not divide.
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope: Rope
    tied: bool = False
    rms_norm_eps: float = 1e-5
    max_position: int = 131_072
    family: Literal["llama"] = "llama"

    def __post_init__(self) -> None:
        _ = self.spec  # which checks

    @cached_property
    def spec(self) -> ModelSpec:
        """What the forward pass reads."""
        attention = Attention(
            self.num_heads, self.num_kv_heads, self.head_dim, self.head_dim**-0.5, self.rope
        )
        layer = LayerSpec(attention, GatedMLP(self.mlp_dim, "silu"))
        return ModelSpec(
            self.vocab_size,
            self.embed_dim,
            (Segment("layers", (("full", layer),), self.num_layers),),
            Norm(self.rms_norm_eps, from_one=False),
            self.max_position,
            tied=self.tied,
        )


def _head_dim(raw: Mapping[str, Any]) -> int:
    return raw["hidden_size"] // raw["num_attention_heads"]


FAMILY = Family(
    title="Llama",
    model_types=("llama",),
    heads={"LlamaForCausalLM": "lm", "LlamaForSequenceClassification": "scalar"},
    config=LlamaConfig,
    numbers={
        **SIZES,
        "num_kv_heads": Number(
            "num_key_value_heads", lambda raw: raw["num_attention_heads"], null=True
        ),
        "head_dim": Number("head_dim", _head_dim, null=True),
        "rms_norm_eps": Number("rms_norm_eps", 1e-6, whole=False),
        "max_position": Number("max_position_embeddings", 2048),
    },
    flags={"tied": ("tie_word_embeddings", False)},
    rope=lambda raw: {"rope": read_rope(raw, 10_000.0, ROPES)},
    rope_to_hf=lambda config: both_versions(config.rope),
    fixed={
        "hidden_act": ("silu",),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
    },
    constants={"hidden_act": "silu", "mlp_bias": False},
    tensors={**PROJECTIONS, **TWO_NORMS},
)


# Sizes from the published config.json files.
_SCALED = Rope(500_000.0, Llama3Scaling(8.0, 1.0, 4.0, 8192))
_SMALL = Rope(500_000.0, Llama3Scaling(32.0, 1.0, 4.0, 8192))
PRESETS: dict[str, LlamaConfig] = {
    "llama-1b": LlamaConfig(128_256, 16, 2048, 8192, 32, 8, 64, _SMALL, tied=True),
    "llama-3b": LlamaConfig(128_256, 28, 3072, 8192, 24, 8, 128, _SMALL, tied=True),
    "llama-8b": LlamaConfig(128_256, 32, 4096, 14336, 32, 8, 128, _SCALED),
    "llama-70b": LlamaConfig(128_256, 80, 8192, 28672, 64, 8, 128, _SCALED),
}
