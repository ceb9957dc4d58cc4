"""Qwen3's dense models (arXiv 2505.09388): Llama's layers, with normed queries and keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from grm_jax.models.family import PROJECTIONS, QK_NORMS, SIZES, TWO_NORMS, Family, Number
from grm_jax.models.hf_rope import both_versions, read_rope
from grm_jax.models.spec import (
    Attention,
    GatedMLP,
    LayerSpec,
    ModelSpec,
    Norm,
    Rope,
    Segment,
)

ROPE = Rope(1_000_000.0)  # as published


@dataclass(frozen=True)
class Qwen3Config:
    """Everything that fixes the shapes and the arithmetic of a dense Qwen3 trunk.

    Raises:
        ValueError: heads that do not divide.
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int = 128
    rope: Rope = ROPE
    tied: bool = False
    rms_norm_eps: float = 1e-6
    max_position: int = 40_960
    family: Literal["qwen3"] = "qwen3"

    def __post_init__(self) -> None:
        _ = self.spec  # which checks

    @cached_property
    def spec(self) -> ModelSpec:
        """What the forward pass reads."""
        attention = Attention(
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.head_dim**-0.5,
            self.rope,
            qk_norm=True,
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


FAMILY = Family(
    title="Qwen3",
    model_types=("qwen3",),
    heads={"Qwen3ForCausalLM": "lm", "Qwen3ForSequenceClassification": "scalar"},
    config=Qwen3Config,
    numbers={
        **SIZES,
        "num_kv_heads": Number("num_key_value_heads", 32),
        "head_dim": Number("head_dim", 128),
        "rms_norm_eps": Number("rms_norm_eps", 1e-6, whole=False),
        "max_position": Number("max_position_embeddings", 32_768),
    },
    flags={"tied": ("tie_word_embeddings", False)},
    rope=lambda raw: {"rope": read_rope(raw, 10_000.0, ("default", "linear", "yarn"))},
    rope_to_hf=lambda config: both_versions(config.rope),
    fixed={
        "hidden_act": ("silu",),
        "attention_bias": (False, None),
        "use_sliding_window": (False, None),
    },
    constants={"hidden_act": "silu", "use_sliding_window": False, "sliding_window": None},
    layer_types=lambda config: ["full_attention"] * config.num_layers,
    layers="be full_attention",
    tensors={**PROJECTIONS, **TWO_NORMS, **QK_NORMS},
)

# Sizes from the published config.json files.
PRESETS: dict[str, Qwen3Config] = {
    "qwen3-0.6b": Qwen3Config(151_936, 28, 1024, 3072, 16, 8, tied=True),
    "qwen3-1.7b": Qwen3Config(151_936, 28, 2048, 6144, 16, 8, tied=True),
    "qwen3-4b": Qwen3Config(151_936, 36, 2560, 9728, 32, 8, tied=True),
    "qwen3-8b": Qwen3Config(151_936, 36, 4096, 12288, 32, 8),
    "qwen3-14b": Qwen3Config(151_936, 40, 5120, 17408, 40, 8),
    "qwen3-32b": Qwen3Config(151_936, 64, 5120, 25600, 64, 8),
}
