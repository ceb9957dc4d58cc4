"""What a file of `families/` says of a family: its config.json, and its tensors' names.

Nothing here needs jax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from grm_jax.models.spec import Head

# For every dimension of a file's tensor the dimensions of ours that it merges.
Dims = tuple[tuple[int, ...], ...]
VECTOR: Dims = ((0,),)
MATRIX: Dims = ((0,), (1,))
TRANSPOSED: Dims = ((1,), (0,))
HEADS_OUT: Dims = ((0, 2), (1,))  # ours [N, D, H], a file's [N * H, D]
HEADS_IN: Dims = ((2,), (0, 1))  # ours [N, H, D], a file's [D, N * H]
UNDER: Dims = ((0, 1), (2,))  # ours [N, X, C], a file's [N * X, C]
EACH = "{}"  # in a name: the number of an expert, each of which has a tensor of its own

# Tensors of a layer that every family names alike, without ".weight" and matrices as [out, in].
PROJECTIONS: dict[str, tuple[str, Dims]] = {
    "q": ("self_attn.q_proj.weight", HEADS_OUT),
    "k": ("self_attn.k_proj.weight", HEADS_OUT),
    "v": ("self_attn.v_proj.weight", HEADS_OUT),
    "o": ("self_attn.o_proj.weight", HEADS_IN),
    "gate": ("mlp.gate_proj.weight", TRANSPOSED),
    "up": ("mlp.up_proj.weight", TRANSPOSED),
    "down": ("mlp.down_proj.weight", TRANSPOSED),
}
QK_NORMS: dict[str, tuple[str, Dims]] = {
    "q_norm": ("self_attn.q_norm.weight", VECTOR),
    "k_norm": ("self_attn.k_norm.weight", VECTOR),
}
QKV_BIASES: dict[str, tuple[str, Dims]] = {
    "q_bias": ("self_attn.q_proj.bias", VECTOR),
    "k_bias": ("self_attn.k_proj.bias", VECTOR),
    "v_bias": ("self_attn.v_proj.bias", VECTOR),
}
# Llama's two norms of a layer, and Gemma's four; the same name means another norm in each.
TWO_NORMS: dict[str, tuple[str, Dims]] = {
    "pre_attn_norm": ("input_layernorm.weight", VECTOR),
    "pre_mlp_norm": ("post_attention_layernorm.weight", VECTOR),
}
FOUR_NORMS: dict[str, tuple[str, Dims]] = {
    "pre_attn_norm": ("input_layernorm.weight", VECTOR),
    "post_attn_norm": ("post_attention_layernorm.weight", VECTOR),
    "pre_mlp_norm": ("pre_feedforward_layernorm.weight", VECTOR),
    "post_mlp_norm": ("post_feedforward_layernorm.weight", VECTOR),
}


@dataclass(frozen=True)
class Number:
    """A number of config.json.

    Attributes:
        key: how transformers spells it.
        default: what transformers takes where it is absent, or a function of the others that gives
            it; None: it must be there. Its type is the one that is written, for version 5 refuses
            an int where it declares a float, and the other way round.
        whole: it is a whole number.
        null: null is as good as absent.
        none: null is a value of its own, and None here.
        least: of a whole number.
    """

    key: str
    default: int | float | Callable[[Mapping[str, Any]], int] | None = None
    whole: bool = True
    null: bool = False
    none: bool = False
    least: int = 1


SIZES = {
    "vocab_size": Number("vocab_size"),
    "num_layers": Number("num_hidden_layers"),
    "embed_dim": Number("hidden_size"),
    "mlp_dim": Number("intermediate_size"),
    "num_heads": Number("num_attention_heads"),
    "num_kv_heads": Number("num_key_value_heads"),
}


@dataclass(frozen=True)
class Family:
    """How folders of a family are read and written.

    Attributes:
        title: what people call it.
        model_types: of config.json; the first is written.
        heads: architectures; the first of each head is written.
        config: makes the config of its fields.
        numbers: fields of the config.
        flags: fields that are true or false: the key, and what it is where it is absent.
        rope: fields that the rotary phases make, from config.json; raises ValueError.
        rope_to_hf: the keys of the rotary phases.
        read: fields that take more than one key, or words, from config.json; raises ValueError.
        write: the keys of these.
        fixed: keys that may ask for what is not computed here, with the values that are fine.
        constants: keys that are written, and not read.
        layer_types: what config.json must say of the layers, if it says something.
        layers: the same in words, after "layer_types must".
        tensors: of a layer: our name, theirs (with `EACH`: of each expert) and its dimensions.
        text_config: where a config.json of several modalities keeps that of text.
        prefixes: what the names of the text's tensors may begin with in place of "model.".
        others: what the names of tensors begin with that are not text's, and not read.
    """

    title: str
    model_types: tuple[str, ...]
    heads: Mapping[str, Head]
    config: Callable[..., Any]
    numbers: Mapping[str, Number]
    rope: Callable[[Mapping[str, Any]], dict[str, Any]]
    rope_to_hf: Callable[[Any], dict[str, Any]]
    tensors: Mapping[str, tuple[str, Dims]]
    read: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda raw: {}
    write: Callable[[Any], dict[str, Any]] = lambda config: {}
    flags: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    layer_types: Callable[[Any], list[str]] | None = None
    layers: str = ""
    text_config: str | None = None
    prefixes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
