"""The metadata of a GGUF file as the config.json that it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from grm_jax.text.gguf_file import GGUFHeader

# Architectures that are read, and what config.json calls them.
_MODELS = {
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
}
GEMMA = ("gemma2", "gemma3")
# Layers of the models whose queries are scaled by another size than the head's: the 27B ones.
_WIDE = {"gemma2": 46, "gemma3": 62}

_NUMBERS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_GEMMA_NUMBERS = {
    "sliding_window": "attention.sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
# Of Llama 3.1 to 3.3; a file keeps what follows from them and the factor alone.
_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA_3_ORIGINAL = 8192


def gguf_config(
    header: GGUFHeader, vocab_size: int, tied: bool, factors: np.ndarray | None
) -> dict[str, Any]:
    """The content of a config.json.

    Args:
        header: of the file.
        vocab_size: rows of its table.
        tied: it has no output layer of its own.
        factors: what the frequencies are divided by, of a file that says so pair by pair.

    Raises:
        ValueError: an architecture that is not computed here, or a number that is missing or not
            what it may be; names the key.
    """
    architecture = check_architecture(header)
    model_type, model_class = _MODELS[architecture]
    gemma = architecture in GEMMA
    config: dict[str, Any] = {
        "architectures": [model_class],
        "model_type": model_type,
        "vocab_size": vocab_size,
        "head_dim": head_dim(header),
        "num_key_value_heads": _get(header, "attention.head_count_kv", header_heads(header)),
        "tie_word_embeddings": tied or gemma,
    }
    config |= {theirs: _need(header, key) for theirs, key in _NUMBERS.items()}
    layers = config["num_hidden_layers"]
    if isinstance(layers, int) and layers > len(header.tensors):
        raise ValueError(
            f"{header.path} is damaged: it claims {layers} layers, but has {len(header.tensors)} "
            "tensors. Get the file anew."
        )
    if gemma:
        numbers = {theirs: _get(header, key) for theirs, key in _GEMMA_NUMBERS.items()}
        config |= {name: number for name, number in numbers.items() if number is not None}
        config |= _layers(header)
        config["query_pre_attn_scalar"] = _query_scale(header, config)
        config["hidden_activation"] = "gelu_pytorch_tanh"
    return config | _rope(header, config, factors)


def check_architecture(header: GGUFHeader) -> str:
    """The architecture of a file, if it is one that is computed here."""
    found = header.metadata.get("general.architecture")
    if found not in _MODELS:
        raise ValueError(
            f"{header.path}: its architecture is {found!r}, but only {', '.join(_MODELS)} are read "
            "from GGUF."
        )
    if experts := _get(header, "expert_count", 0):
        raise ValueError(f"{header.path}: it has {experts} experts, which are not computed here.")
    return found


def header_heads(header: GGUFHeader) -> Any:
    """How many heads queries have."""
    return _need(header, "attention.head_count")


def head_dim(header: GGUFHeader) -> int:
    """The size of a head.

    Raises:
        ValueError: it is no even number, differs between keys and values, or is not turned whole.
    """
    width, heads = _need(header, "embedding_length"), header_heads(header)
    if type(width) is not int or type(heads) is not int or not 0 < heads <= width:
        raise ValueError(f"{header.path}: {heads!r} heads in a width of {width!r} are none.")
    size = _get(header, "attention.key_length", width // heads)
    if type(size) is not int or size <= 0 or size % 2:
        raise ValueError(f"{header.path}: the size of a head is {size!r}, but must be even.")
    for key in ("attention.value_length", "rope.dimension_count"):
        if _get(header, key, size) != size:
            raise ValueError(
                f"{header.path}: {key} is {_get(header, key)!r} and the size of a head {size}, but "
                "only models in which they are the same are computed here."
            )
    return size


def _layers(header: GGUFHeader) -> dict[str, Any]:
    """Which layers are local, where a file says so."""
    pattern = _get(header, "attention.sliding_window_pattern")
    if isinstance(pattern, list):
        names = {True: "sliding_attention", False: "full_attention"}
        return {"layer_types": [names[bool(local)] for local in pattern]}
    return {} if pattern is None else {"sliding_window_pattern": pattern}


def _query_scale(header: GGUFHeader, config: Mapping[str, Any]) -> int:
    """As in llama.cpp, whose files do not say it."""
    if config["num_hidden_layers"] == _WIDE[header.metadata["general.architecture"]]:
        return config["hidden_size"] // config["num_attention_heads"]
    return config["head_dim"]


def _rope(
    header: GGUFHeader, config: Mapping[str, Any], factors: np.ndarray | None
) -> dict[str, Any]:
    base = _get(header, "rope.freq_base", 10_000.0)
    scaling = _scaling(header, config, base, factors)
    if config["model_type"] != "gemma3_text":
        return {"rope_theta": base} | ({"rope_scaling": scaling} if scaling else {})
    near = {"rope_type": "default", "rope_theta": _get(header, "rope.freq_base_swa", 10_000.0)}
    full = {"rope_type": "default", "rope_theta": base} | scaling
    return {"rope_parameters": {"full_attention": full, "sliding_attention": near}}


def _scaling(
    header: GGUFHeader, config: Mapping[str, Any], base: Any, factors: np.ndarray | None
) -> dict[str, Any]:
    if factors is not None:
        return _llama_3(header, config["head_dim"], base, factors)
    kind = _get(header, "rope.scaling.type", "none")
    factor = _get(header, "rope.scaling.factor")
    if kind == "none":
        old = _get(header, "rope.scale_linear", 1.0)
        return {} if old == 1.0 else {"rope_type": "linear", "factor": old}
    if kind not in ("linear", "yarn"):
        raise ValueError(
            f"{header.path}: rope.scaling.type is {kind!r}, which is not computed here."
        )
    scaling = {"rope_type": kind, "factor": factor}
    original = _get(header, "rope.scaling.original_context_length")
    return scaling | ({} if original is None else {"original_max_position_embeddings": original})


def _llama_3(header: GGUFHeader, size: int, base: Any, factors: np.ndarray) -> dict[str, Any]:
    """The scaling of Llama 3.1, if the factors are those that it makes."""
    half = size // 2
    if not isinstance(base, int | float) or not 0 < base < math.inf or factors.shape != (half,):
        raise ValueError(
            f"{header.path} is damaged: its rotary phases do not fit a head of {size}."
        )
    factor = float(factors.max())
    if not 1 <= factor < math.inf:
        raise ValueError(f"{header.path} is damaged: rotary phases are divided by {factor}.")
    wavelength = 2 * math.pi * base ** (np.arange(half) / half)
    low, high = _LLAMA_3["low_freq_factor"], _LLAMA_3["high_freq_factor"]
    blend = np.clip((_LLAMA_3_ORIGINAL / wavelength - low) / (high - low), 0, 1)
    if not np.allclose(factors, 1 / ((1 - blend) / factor + blend), rtol=1e-4):
        raise ValueError(
            f"{header.path}: its rotary phases are scaled in a way that is not Llama 3.1's, which "
            "is not computed here."
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        **_LLAMA_3,
        "original_max_position_embeddings": _LLAMA_3_ORIGINAL,
    }


def _get(header: GGUFHeader, key: str, default: Any = None) -> Any:
    """A number of the architecture; those of float32 as the shortest number that it may be."""
    value = header.metadata.get(f"{header.metadata['general.architecture']}.{key}", default)
    if not isinstance(value, float):
        return value
    with np.errstate(over="ignore"):  # what is infinite is refused where its meaning is known
        return float(str(np.float32(value)))


def _need(header: GGUFHeader, key: str) -> Any:
    value = _get(header, key)
    if value is None:
        name = f"{header.metadata['general.architecture']}.{key}"
        raise ValueError(f"{header.path}: {name} is missing in its metadata. Get the file anew.")
    return value
