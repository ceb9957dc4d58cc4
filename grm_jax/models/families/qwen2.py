"""Qwen2 and Qwen2.5 (arXiv 2412.15115): Llama's layers, with biases on queries, keys and values,
and windows in the last layers where a folder asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from grm_jax.models.family import PROJECTIONS, QKV_BIASES, SIZES, TWO_NORMS, Family, Number
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
class Qwen2Config:
    """Everything that fixes the shapes and the arithmetic of a Qwen2 trunk.

    Raises:
        ValueError: heads that do not divide.

    Attributes:
        windowed: layers from `full_layers` on see `sliding_window` positions (None: all); otherwise
            neither number means anything.
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int = 128
    rope: Rope = ROPE
    windowed: bool = False
    sliding_window: int | None = 32_768
    full_layers: int = 28
    tied: bool = False
    rms_norm_eps: float = 1e-6
    max_position: int = 32_768
    family: Literal["qwen2"] = "qwen2"

    def __post_init__(self) -> None:
        _ = self.spec  # which checks

    @cached_property
    def spec(self) -> ModelSpec:
        """What the forward pass reads."""

        def layer(window: int | None) -> LayerSpec:
            attention = Attention(
                self.num_heads,
                self.num_kv_heads,
                self.head_dim,
                self.head_dim**-0.5,
                self.rope,
                window,
                biases=("q", "k", "v"),
            )
            return LayerSpec(attention, GatedMLP(self.mlp_dim, "silu"))

        full = min(self.full_layers, self.num_layers) if self.windowed else self.num_layers
        rest = self.num_layers - full
        segments = (
            Segment("layers", (("full", layer(None)),), full),
            Segment("last_layers", (("local", layer(self.sliding_window)),), rest),
        )
        return ModelSpec(
            self.vocab_size,
            self.embed_dim,
            tuple(segment for segment in segments if segment.repeats),
            Norm(self.rms_norm_eps, from_one=False),
            self.max_position,
            tied=self.tied,
        )


def _head_dim(raw: Mapping[str, Any]) -> int:
    return raw["hidden_size"] // raw["num_attention_heads"]


def _layer_types(config: Qwen2Config) -> list[str]:
    windows = config.spec.windows
    return ["sliding_attention" if window else "full_attention" for window in windows]


FAMILY = Family(
    title="Qwen2.5",
    model_types=("qwen2",),
    heads={"Qwen2ForCausalLM": "lm", "Qwen2ForSequenceClassification": "scalar"},
    config=Qwen2Config,
    numbers={
        **SIZES,
        "num_kv_heads": Number("num_key_value_heads", 32),
        "head_dim": Number("head_dim", _head_dim, null=True),
        "sliding_window": Number("sliding_window", 4096, none=True),
        "full_layers": Number("max_window_layers", 28, least=0),
        "rms_norm_eps": Number("rms_norm_eps", 1e-6, whole=False),
        "max_position": Number("max_position_embeddings", 32_768),
    },
    flags={"tied": ("tie_word_embeddings", False), "windowed": ("use_sliding_window", False)},
    rope=lambda raw: {"rope": read_rope(raw, 10_000.0, ("default", "linear", "yarn"))},
    rope_to_hf=lambda config: both_versions(config.rope),
    fixed={"hidden_act": ("silu",), "attention_bias": (True, None)},
    constants={"hidden_act": "silu", "attention_bias": True},
    layer_types=_layer_types,
    layers="be full_attention, but for sliding_attention after the first max_window_layers",
    tensors={**PROJECTIONS, **TWO_NORMS, **QKV_BIASES},
)

# Sizes from the published config.json files of Qwen2.5, instruct and base.
PRESETS: dict[str, Qwen2Config] = {
    "qwen2.5-0.5b": Qwen2Config(151_936, 24, 896, 4864, 14, 2, 64, tied=True),
    "qwen2.5-1.5b": Qwen2Config(151_936, 28, 1536, 8960, 12, 2, tied=True),
    "qwen2.5-3b": Qwen2Config(151_936, 36, 2048, 11_008, 16, 2, tied=True),
    "qwen2.5-7b": Qwen2Config(152_064, 28, 3584, 18_944, 28, 4),
    "qwen2.5-14b": Qwen2Config(152_064, 48, 5120, 13_824, 40, 8),
    "qwen2.5-32b": Qwen2Config(152_064, 64, 5120, 27_648, 40, 8),
    "qwen2.5-72b": Qwen2Config(152_064, 80, 8192, 29_568, 64, 8),
}
