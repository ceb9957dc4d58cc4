"""Gemma 3's text (arXiv 2503.19786): five local layers to a global one, normed queries and keys,
phases of their own for local layers; no soft caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from grm_jax.models.family import FOUR_NORMS, PROJECTIONS, QK_NORMS, SIZES, Family, Number
from grm_jax.models.hf_rope import rope_of, rope_to_hf, scaling_to_hf
from grm_jax.models.spec import (
    Attention,
    GatedMLP,
    LayerSpec,
    LinearScaling,
    ModelSpec,
    Norm,
    Rope,
    Segment,
)

ROPES = ("default", "linear")
ROPE, LOCAL_ROPE = Rope(1_000_000.0), Rope(10_000.0)  # as published, but for the scaling


@dataclass(frozen=True)
class Gemma3Config:
    """Everything that fixes the shapes and the arithmetic of a Gemma 3 trunk.

    Attributes:
        pattern: every so many-th layer is global; the layers need not be a multiple of it.
        rope: of global layers. local_rope: of local ones.

    Raises:
        ValueError: a number that no Gemma 3 can have.
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    query_pre_attn_scalar: float
    sliding_window: int
    rope: Rope = ROPE
    local_rope: Rope = LOCAL_ROPE
    pattern: int = 6
    rms_norm_eps: float = 1e-6
    max_position: int = 131_072
    family: Literal["gemma3"] = "gemma3"

    def __post_init__(self) -> None:
        if self.pattern < 2:
            raise ValueError(f"pattern is {self.pattern}, but Gemma 3 has local layers: give 2 up.")
        _ = self.spec  # which checks the rest

    @cached_property
    def spec(self) -> ModelSpec:
        """What the forward pass reads."""

        def layer(rope: Rope, window: int | None) -> LayerSpec:
            attention = Attention(
                self.num_heads,
                self.num_kv_heads,
                self.head_dim,
                self.query_pre_attn_scalar**-0.5,
                rope,
                window,
                qk_norm=True,
            )
            return LayerSpec(attention, GatedMLP(self.mlp_dim, "gelu_tanh"), post_norms=True)

        near = layer(self.local_rope, self.sliding_window)
        local = tuple((f"local_{i}", near) for i in range(self.pattern - 1))
        repeats, rest = divmod(self.num_layers, self.pattern)
        segments = (
            Segment("periods", (*local, ("global", layer(self.rope, None))), repeats),
            Segment("tail", local[:rest], 1),
        )
        return ModelSpec(
            self.vocab_size,
            self.embed_dim,
            tuple(segment for segment in segments if segment.repeats and segment.period),
            Norm(self.rms_norm_eps, from_one=True),
            self.max_position,
            embed_scale=self.embed_dim**0.5,
        )


def _layer_types(config: Gemma3Config) -> list[str]:
    return [
        "full_attention" if (i + 1) % config.pattern == 0 else "sliding_attention"
        for i in range(config.num_layers)
    ]


def _pattern(raw: Mapping[str, Any]) -> int:
    """Where the first global layer is; the whole of `layer_types` is compared afterwards."""
    types = raw.get("layer_types")
    if isinstance(types, list) and "full_attention" in types:
        return types.index("full_attention") + 1
    return raw.get("_sliding_window_pattern", 6)


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    told = raw.get("rope_parameters") or {}
    if not isinstance(told, Mapping):
        raise ValueError(f"the rope parameters must be an object, but are {told!r}.")
    full = told.get("full_attention") or raw.get("rope_scaling") or {}
    near = told.get("sliding_attention") or {}
    length = raw.get("max_position_embeddings")
    return {
        "rope": rope_of(full, raw.get("rope_theta", 1_000_000.0), ROPES, length),
        "local_rope": rope_of(near, raw.get("rope_local_base_freq", 10_000.0), ROPES, length),
    }


def _rope_to_hf(config: Gemma3Config) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "rope_theta": float(config.rope.base),
        "rope_local_base_freq": float(config.local_rope.base),
        "rope_parameters": {
            "full_attention": rope_to_hf(config.rope),
            "sliding_attention": rope_to_hf(config.local_rope),
        },
    }
    if config.rope.scaling is not None:
        keys["rope_scaling"] = scaling_to_hf(config.rope.scaling)
    return keys


FAMILY = Family(
    title="Gemma 3",
    model_types=("gemma3_text", "gemma3"),
    heads={
        "Gemma3ForCausalLM": "lm",
        "Gemma3TextForSequenceClassification": "scalar",
        "Gemma3ForConditionalGeneration": "lm",
        "Gemma3ForSequenceClassification": "scalar",
    },
    config=Gemma3Config,
    numbers={
        **SIZES,
        # Published files of several modalities leave out what is as in Gemma3TextConfig.
        "vocab_size": Number("vocab_size", 262_208),
        "num_heads": Number("num_attention_heads", 8),
        "num_kv_heads": Number("num_key_value_heads", 4),
        "head_dim": Number("head_dim", 256),
        "query_pre_attn_scalar": Number("query_pre_attn_scalar", 256, whole=False),
        "sliding_window": Number("sliding_window", 4096),
        "pattern": Number("sliding_window_pattern", _pattern, null=True),
        "rms_norm_eps": Number("rms_norm_eps", 1e-6, whole=False),
        "max_position": Number("max_position_embeddings", 131_072),
    },
    rope=_rope,
    rope_to_hf=_rope_to_hf,
    fixed={
        "hidden_activation": ("gelu_pytorch_tanh",),
        "tie_word_embeddings": (True, None),
        "attention_bias": (False, None),
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
        "use_bidirectional_attention": (False, None),
    },
    constants={
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    layer_types=_layer_types,
    layers="be sliding_attention, but for a full_attention at regular distances",
    tensors={**PROJECTIONS, **FOUR_NORMS, **QK_NORMS},
    text_config="text_config",
    prefixes=("language_model.model.", "model.language_model."),
    others=(
        "vision_tower.",
        "multi_modal_projector.",
        "model.vision_tower.",
        "model.multi_modal_projector.",
    ),
)

_SCALED = Rope(1_000_000.0, LinearScaling(8.0))
# Sizes from the published config.json files; of all but the first two the text alone.
PRESETS: dict[str, Gemma3Config] = {
    "gemma3-270m": Gemma3Config(262_144, 18, 640, 2048, 4, 1, 256, 256.0, 512, max_position=32_768),
    "gemma3-1b": Gemma3Config(262_144, 26, 1152, 6912, 4, 1, 256, 256.0, 512, max_position=32_768),
    "gemma3-4b": Gemma3Config(262_208, 34, 2560, 10240, 8, 4, 256, 256.0, 1024, _SCALED),
    "gemma3-12b": Gemma3Config(262_208, 48, 3840, 15360, 16, 8, 256, 256.0, 1024, _SCALED),
    "gemma3-27b": Gemma3Config(262_208, 62, 5376, 21504, 32, 16, 128, 168.0, 1024, _SCALED),
}
