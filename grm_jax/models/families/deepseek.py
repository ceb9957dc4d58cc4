"""DeepSeek-V2 (arXiv 2405.04434; V2-Lite and V2.5 too) and V3 (arXiv 2412.19437; R1 too): latent
attention, a few dense layers and then layers of experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from grm_jax.models.family import (
    EACH,
    HEADS_IN,
    HEADS_OUT,
    PROJECTIONS,
    SIZES,
    TRANSPOSED,
    TWO_NORMS,
    UNDER,
    VECTOR,
    Dims,
    Family,
    Number,
)
from grm_jax.models.hf_rope import both_versions, read_rope
from grm_jax.models.spec import (
    Experts,
    Gate,
    GatedMLP,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    Norm,
    Rope,
    Segment,
    YarnScaling,
)


@dataclass(frozen=True)
class DeepSeekConfig:
    """Everything that fixes the shapes and the arithmetic of a DeepSeek trunk.

    Attributes:
        dense_layers: so many first ones have no experts.
        expert_dim: how wide an expert is; the `shared_experts` are one, so many times as wide.
        query_rank, latent_dim, nope_dim, rope_dim, value_dim: see `LatentAttention`.
        groups, top_groups, normalized, routed_scale: see `Gate`.
        mscale, mscale_all_dim: YaRN's; the second one also scales queries. 0: not given.

    Raises:
        ValueError: experts that do not divide, or too few of them.
    """

    family: Literal["deepseek_v2", "deepseek_v3"]
    vocab_size: int
    num_layers: int
    dense_layers: int
    embed_dim: int
    mlp_dim: int
    expert_dim: int
    num_experts: int
    chosen_experts: int
    shared_experts: int
    num_heads: int
    query_rank: int | None
    rope: Rope
    latent_dim: int = 512
    nope_dim: int = 128
    rope_dim: int = 64
    value_dim: int = 128
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    interleaved: bool = True
    groups: int = 1
    top_groups: int = 1
    normalized: bool = False
    routed_scale: float = 1.0
    tied: bool = False
    rms_norm_eps: float = 1e-6
    max_position: int = 163_840

    def __post_init__(self) -> None:
        if self.dense_layers > self.num_layers:
            raise ValueError(
                f"first_k_dense_replace is {self.dense_layers}, but there are only "
                f"{self.num_layers} layers."
            )
        _ = self.spec  # which checks the rest

    @cached_property
    def spec(self) -> ModelSpec:
        """What the forward pass reads."""
        attention = LatentAttention(
            self.num_heads,
            self.latent_dim,
            self.nope_dim,
            self.rope_dim,
            self.value_dim,
            self.query_scale,
            self.rope,
            self.query_rank,
            self.interleaved,
        )
        dense = LayerSpec(attention, GatedMLP(self.mlp_dim, "silu"))
        mixed = LayerSpec(attention, self._experts())
        sparse = self.num_layers - self.dense_layers
        segments = (
            Segment("dense_layers", (("dense", dense),), self.dense_layers),
            Segment("expert_layers", (("mixed", mixed),), sparse),
        )
        return ModelSpec(
            self.vocab_size,
            self.embed_dim,
            tuple(segment for segment in segments if segment.repeats),
            Norm(self.rms_norm_eps, from_one=False),
            self.max_position,
            tied=self.tied,
        )

    @property
    def query_scale(self) -> float:
        """head size^-0.5, times (0.1 mscale_all_dim ln(factor) + 1)^2 under YaRN."""
        plain = (self.nope_dim + self.rope_dim) ** -0.5
        scaling = self.rope.scaling
        if not isinstance(scaling, YarnScaling) or scaling.factor <= 1:
            return plain
        return plain * (0.1 * self.mscale_all_dim * math.log(scaling.factor) + 1) ** 2

    def _experts(self) -> Experts:
        third = self.family == "deepseek_v3"
        gate = Gate(
            "sigmoid" if third else "softmax",
            self.groups,
            self.top_groups,
            group_best=2 if third else 1,
            corrected=third,
            normalized=self.normalized,
            scale=self.routed_scale,
        )
        return Experts(
            self.num_experts,
            self.chosen_experts,
            self.expert_dim,
            self.shared_experts * self.expert_dim,
            "silu",
            gate,
        )


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    told = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    rope = read_rope(raw, 10_000.0, ("default", "yarn"))
    if rope.scaling is None:
        return {"rope": rope}
    return {"rope": rope, **{key: float(told.get(key) or 0.0) for key in _MSCALES}}


_MSCALES = ("mscale", "mscale_all_dim")


def _rope_to_hf(config: DeepSeekConfig) -> dict[str, Any]:
    keys = both_versions(config.rope)
    told = {key: getattr(config, key) for key in _MSCALES if getattr(config, key)}
    for key in keys.keys() & {"rope_parameters", "rope_scaling"}:
        keys[key] = keys[key] | told
    return keys


def _heads(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing: key-value heads are made for every head, so there is no number of their own."""
    heads, kv_heads = raw["num_attention_heads"], raw.get("num_key_value_heads")
    if kv_heads not in (None, heads):
        raise ValueError(
            f"num_key_value_heads is {kv_heads}, but latent attention has as many as "
            f"num_attention_heads ({heads})."
        )
    return {}


def _method(raw: Mapping[str, Any]) -> dict[str, Any]:
    """V2's choice of experts; "greedy" is that among all of one group."""
    method = raw.get("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise ValueError(
            f"topk_method is {method!r}, but only 'greedy' and 'group_limited_greedy' are computed "
            "here for DeepSeek-V2."
        )
    return _heads(raw) | ({"groups": 1, "top_groups": 1} if method == "greedy" else {})


def _method_to_hf(config: DeepSeekConfig) -> dict[str, Any]:
    method = "greedy" if config.groups == 1 else "group_limited_greedy"
    return {"num_key_value_heads": config.num_heads, "topk_method": method}


_NUMBERS = {
    **{ours: number for ours, number in SIZES.items() if ours != "num_kv_heads"},
    "expert_dim": Number("moe_intermediate_size"),
    "num_experts": Number("n_routed_experts"),
    "chosen_experts": Number("num_experts_per_tok"),
    "shared_experts": Number("n_shared_experts"),
    "query_rank": Number("q_lora_rank", 1536, none=True),
    "latent_dim": Number("kv_lora_rank", 512),
    "nope_dim": Number("qk_nope_head_dim", 128),
    "rope_dim": Number("qk_rope_head_dim", 64),
    "value_dim": Number("v_head_dim", 128),
    "rms_norm_eps": Number("rms_norm_eps", 1e-6, whole=False),
}
_FIXED = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "moe_layer_freq": (1, None),
}
_TENSORS: dict[str, tuple[str, Dims]] = {
    **{name: PROJECTIONS[name] for name in ("gate", "up", "down")},
    **TWO_NORMS,
    "q": ("self_attn.q_proj.weight", HEADS_OUT),
    "q_a": ("self_attn.q_a_proj.weight", TRANSPOSED),
    "q_a_norm": ("self_attn.q_a_layernorm.weight", VECTOR),
    "q_b": ("self_attn.q_b_proj.weight", HEADS_OUT),
    "kv_a": ("self_attn.kv_a_proj_with_mqa.weight", TRANSPOSED),
    "kv_a_norm": ("self_attn.kv_a_layernorm.weight", VECTOR),
    "kv_b": ("self_attn.kv_b_proj.weight", UNDER),
    "o": ("self_attn.o_proj.weight", HEADS_IN),
    "router": ("mlp.gate.weight", TRANSPOSED),
    "router_bias": ("mlp.gate.e_score_correction_bias", VECTOR),
    **{f"experts_{x}": (f"mlp.experts.{EACH}.{x}_proj.weight", TRANSPOSED) for x in ("gate", "up")},
    "experts_down": (f"mlp.experts.{EACH}.down_proj.weight", TRANSPOSED),
    **{
        f"shared_{x}": (f"mlp.shared_experts.{x}_proj.weight", TRANSPOSED)
        for x in ("gate", "up", "down")
    },
}

V2 = Family(
    title="DeepSeek-V2",
    model_types=("deepseek_v2",),
    heads={"DeepseekV2ForCausalLM": "lm", "DeepseekV2ForSequenceClassification": "scalar"},
    config=partial(DeepSeekConfig, family="deepseek_v2"),
    numbers={
        **_NUMBERS,
        "dense_layers": Number("first_k_dense_replace", 0, least=0),
        "groups": Number("n_group", 1, null=True),
        "top_groups": Number("topk_group", 1, null=True),
        "routed_scale": Number("routed_scaling_factor", 1.0, whole=False),
        "max_position": Number("max_position_embeddings", 2048),
    },
    flags={"tied": ("tie_word_embeddings", False)},
    rope=_rope,
    rope_to_hf=_rope_to_hf,
    read=_method,
    write=_method_to_hf,
    # `norm_topk_prob`: transformers ignores it, and DeepSeek's own code does not.
    fixed={**_FIXED, "scoring_func": ("softmax", None), "norm_topk_prob": (False, None)},
    constants={"hidden_act": "silu", "scoring_func": "softmax", "norm_topk_prob": False},
    tensors=_TENSORS,
)

V3 = Family(
    title="DeepSeek-V3",
    model_types=("deepseek_v3",),
    heads={"DeepseekV3ForCausalLM": "lm", "DeepseekV3ForSequenceClassification": "scalar"},
    config=partial(DeepSeekConfig, family="deepseek_v3"),
    numbers={
        **_NUMBERS,
        "dense_layers": Number("first_k_dense_replace", 3, least=0),
        "groups": Number("n_group", 8),
        "top_groups": Number("topk_group", 4),
        "routed_scale": Number("routed_scaling_factor", 2.5, whole=False),
        "max_position": Number("max_position_embeddings", 4096),
    },
    flags={
        "tied": ("tie_word_embeddings", False),
        "interleaved": ("rope_interleave", True),
        "normalized": ("norm_topk_prob", True),
    },
    rope=_rope,
    rope_to_hf=_rope_to_hf,
    read=_heads,
    write=lambda config: {"num_key_value_heads": config.num_heads},
    fixed={**_FIXED, "scoring_func": ("sigmoid", None), "topk_method": ("noaux_tc", None)},
    constants={
        "hidden_act": "silu",
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "num_nextn_predict_layers": 0,
    },
    tensors=_TENSORS,
    # The published folders hold a module that predicts one more token, as layer 61 of 61.
    others=("model.layers.61.",),
)


def _yarn(mscale: float) -> dict[str, Any]:
    rope = Rope(10_000.0, YarnScaling(40.0, 4096, 1.0))
    return {"rope": rope, "mscale": mscale, "mscale_all_dim": mscale}


# Sizes from the published config.json files; R1 has those of V3, and V2 has those of V2.5 but for
# YaRN's mscale and mscale_all_dim: 0.707 in V2-Chat and V2-Lite, 1.0 in V2.5. As the two are equal,
# sine and cosine stay as they are, and queries are scaled by (0.1 mscale_all_dim ln(40) + 1)^2.
PRESETS: dict[str, DeepSeekConfig] = {
    "deepseek-v2-lite": DeepSeekConfig(
        "deepseek_v2", 102_400, 27, 1, 2048, 10_944, 1408, 64, 6, 2, 16, None, **_yarn(0.707)
    ),
    "deepseek-v2.5": DeepSeekConfig(
        "deepseek_v2", 102_400, 60, 1, 5120, 12_288, 1536, 160, 6, 2, 128, 1536,
        groups=8, top_groups=3, routed_scale=16.0, **_yarn(1.0),
    ),
    "deepseek-v3": DeepSeekConfig(
        "deepseek_v3", 129_280, 61, 3, 7168, 18_432, 2048, 256, 8, 1, 128, 1536,
        groups=8, top_groups=4, normalized=True, routed_scale=2.5, **_yarn(1.0),
    ),
}  # fmt: skip
