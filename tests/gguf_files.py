"""Small GGUF files, written as llama.cpp's converter does: rows of queries and keys turned, 1 added
to Gemma's norms, and tensors in any of the types that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import gguf
import numpy as np
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from grm_jax.models.config import Config

KINDS = gguf.GGMLQuantizationType
# Where the scales, float16, lie in a block of the types that `gguf` can read and not write.
SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {
    False: {"post_attention_layernorm": "ffn_norm"},
    True: {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(
    path: Path,
    config: Config,
    state: Mapping[str, np.ndarray],
    kind_of: Callable[[str], str] = lambda name: "F32",
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Writes a file of these tensors, which have a Hugging Face folder's names and layout.

    `kind_of` gives the type of a matrix by its name; `metadata` and `tensors` are what else is in
    the file (None: an entry is left out). Returns the tensors that the file stands for.
    """
    gemma, rng = config.family.startswith("gemma"), np.random.default_rng(0)
    entries = metadata_of(config) | dict(metadata or {})
    writer = gguf.GGUFWriter(path, entries.pop("general.architecture", config.family))
    for key, value in entries.items():
        _add(writer, key, value)
    kept: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        if tensor.ndim == 1:
            shift = np.float32(gemma)
            writer.add_tensor(_name(name, gemma), tensor + shift)
            kept[name] = (tensor + shift) - shift
            continue
        raw, kept[name] = packed(tensor, kind_of(name), rng)
        if config.family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.num_heads if "q_proj" in name else config.num_kv_heads
            raw = raw.reshape(heads, 2, -1, raw.shape[-1]).swapaxes(1, 2).reshape(raw.shape)
        writer.add_tensor(
            _name(name, gemma), np.ascontiguousarray(raw), raw_dtype=KINDS[kind_of(name)]
        )
    for name, tensor in (tensors or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def packed(
    tensor: np.ndarray, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A matrix in the blocks of a type, and the numbers that they stand for. Where `gguf` cannot
    write a type, the blocks are random, of about the size of the matrix's numbers."""
    if kind not in SCALES:
        raw = gguf.quantize(tensor, KINDS[kind])
    else:
        size, nbytes = gguf.GGML_QUANT_SIZES[KINDS[kind]]
        blocks = rng.integers(
            0, 256, (*tensor.shape[:-1], tensor.shape[-1] // size, nbytes), np.uint8
        )
        for place in SCALES[kind]:
            scale = rng.uniform(1e-4, 3e-4, blocks.shape[:-1]).astype(np.float16)
            blocks[..., place : place + 2] = scale[..., None].view(np.uint8)
        raw = blocks.reshape(*tensor.shape[:-1], -1)
    return raw, gguf.dequantize(raw, KINDS[kind])


def metadata_of(config: Config) -> dict[str, Any]:
    """What a converter writes of a config, but for the tokenizer and what scales the phases."""
    base = config.rope_theta if config.family == "gemma2" else config.rope.base
    numbers: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "block_count": config.num_layers,
        "context_length": config.max_position,
        "embedding_length": config.embed_dim,
        "feed_forward_length": config.mlp_dim,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": base,
    }
    if config.family == "llama":
        numbers["rope.dimension_count"] = config.head_dim
    if config.family.startswith("gemma"):
        numbers["attention.sliding_window"] = config.sliding_window
    if config.family == "gemma2":
        numbers["attn_logit_softcapping"] = config.attn_logit_softcap
        numbers["final_logit_softcapping"] = config.final_logit_softcap
    return {"general.name": "small"} | {f"{config.family}.{k}": v for k, v in numbers.items()}


def tokens_of(
    tokens: Sequence[str], kinds: Sequence[int], model: str, **others: Any
) -> dict[str, Any]:
    """The metadata of a tokenizer."""
    entries = {"model": model, "tokens": [*tokens], "token_type": [*kinds], **others}
    return {f"tokenizer.ggml.{key}": value for key, value in entries.items()}


def by_transformers(path: Path) -> Any:
    """The model that transformers makes of a file. Its `from_pretrained` does it in these steps, if
    accelerate is installed."""
    # For the config and for the weights: half a minute each time where a vocabulary is large.
    with mock.patch.object(gguf, "GGUFReader", cache(gguf.GGUFReader)):
        config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        module = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=module)
    missing, unknown = module.load_state_dict(read["tensors"], strict=False)
    assert missing in ([], ["lm_head.weight"])
    assert not unknown
    module.tie_weights()
    return module.float().eval()


def _name(name: str, gemma: bool) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{(NAMES | NORMS[gemma])[part]}.weight"


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case None:
            pass
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
