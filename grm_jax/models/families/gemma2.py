"""Gemma-2 (arXiv 2408.00118): a local and a global layer in turn, soft caps, four norms a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from grm_jax.models.family import FOUR_NORMS, PROJECTIONS, SIZES, Family, Number
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


@dataclass(frozen=True)
class Gemma2Config:
    """Everything that fixes the shapes and the arithmetic of a Gemma-2 trunk.

    Layers alternate: even ones attend to the last `sliding_window` positions, odd ones to all.

    Raises:
        ValueError: a number that no Gemma-2 can have (odd layer count, heads that do not divide).
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    query_pre_attn_scalar: float
    sliding_window: int = 4096
    attn_logit_softcap: float = 50.0
    final_logit_softcap: float = 30.0
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    max_position: int = 8192
    family: Literal["gemma2"] = "gemma2"

    def __post_init__(self) -> None:
        if self.num_layers < 2 or self.num_layers % 2:
            raise ValueError(
                f"num_layers is {self.num_layers}, but Gemma-2 alternates a local and a global "
                "layer: give an even number, 2 or more."
            )
        _ = self.spec  # which checks the rest

    @cached_property
    def spec(self) -> ModelSpec:
        """What the forward pass reads; queries are scaled by `query_pre_attn_scalar ** -0.5` (not
        head_dim's)."""

        def layer(window: int | None) -> LayerSpec:
            attention = Attention(
                self.num_heads,
                self.num_kv_heads,
                self.head_dim,
                self.query_pre_attn_scalar**-0.5,
                Rope(self.rope_theta),
                window,
                self.attn_logit_softcap,
            )
            return LayerSpec(attention, GatedMLP(self.mlp_dim, "gelu_tanh"), post_norms=True)

        pair = (("local", layer(self.sliding_window)), ("global", layer(None)))
        return ModelSpec(
            self.vocab_size,
            self.embed_dim,
            (Segment("pairs", pair, self.num_layers // 2),),
            Norm(self.rms_norm_eps, from_one=True),
            self.max_position,
            embed_scale=self.embed_dim**0.5,
            softcap=self.final_logit_softcap,
        )


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"rope_theta": read_rope(raw, 10_000.0).base}


FAMILY = Family(
    title="Gemma-2",
    model_types=("gemma2",),
    heads={"Gemma2ForCausalLM": "lm", "Gemma2ForSequenceClassification": "scalar"},
    config=Gemma2Config,
    numbers={
        **SIZES,
        "head_dim": Number("head_dim", 256),
        "query_pre_attn_scalar": Number("query_pre_attn_scalar", 256, whole=False),
        "sliding_window": Number("sliding_window", 4096),
        "attn_logit_softcap": Number("attn_logit_softcapping", 50.0, whole=False),
        "final_logit_softcap": Number("final_logit_softcapping", 30.0, whole=False),
        "rms_norm_eps": Number("rms_norm_eps", 1e-6, whole=False),
        "max_position": Number("max_position_embeddings", 8192),
    },
    rope=_rope,
    rope_to_hf=lambda config: both_versions(Rope(config.rope_theta)),
    # `hidden_act` is not among them: Gemma-2 uses the tanh GELU whatever it says.
    fixed={
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "tie_word_embeddings": (True,),
        "attention_bias": (False, None),
        "use_bidirectional_attention": (False, None),
    },
    constants={
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    },
    layer_types=lambda config: ["sliding_attention", "full_attention"] * (config.num_layers // 2),
    layers="alternate sliding_attention and full_attention, beginning with sliding",
    tensors={**PROJECTIONS, **FOUR_NORMS},
)

# Sizes from the published config.json files; "tiny" is the bundled GRM's (its vocabulary comes
# from its tokenizer), "small" and "medium" are for scaling curves on a CPU,
# and so are its siblings of half and a quarter of its width.
PRESETS: dict[str, Gemma2Config] = {
    "2b": Gemma2Config(256_000, 26, 2304, 9216, 8, 4, 256, 256.0),
    "9b": Gemma2Config(256_000, 42, 3584, 14336, 16, 8, 256, 256.0),
    "27b": Gemma2Config(256_000, 46, 4608, 36864, 32, 16, 128, 144.0),
    "tiny": Gemma2Config(512, 4, 128, 192, 4, 2, 32, 32.0, sliding_window=48, max_position=512),
    "tiny-half": Gemma2Config(512, 4, 64, 96, 2, 1, 32, 32.0, sliding_window=48, max_position=512),
    "tiny-quarter": Gemma2Config(
        512, 4, 32, 48, 1, 1, 32, 32.0, sliding_window=48, max_position=512
    ),
    "small": Gemma2Config(512, 6, 192, 384, 6, 3, 32, 32.0, sliding_window=48, max_position=512),
    "medium": Gemma2Config(512, 8, 256, 768, 8, 4, 32, 32.0, sliding_window=48, max_position=512),
}
