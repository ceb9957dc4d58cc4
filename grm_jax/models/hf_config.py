"""config.json: transformers' spelling of `Gemma2Config`, version 4's and 5's, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from grm_jax.models.config import Gemma2Config
from grm_jax.text.files import read_object

ARCHITECTURES: dict[str, Literal["lm", "scalar"]] = {
    "Gemma2ForCausalLM": "lm",
    "Gemma2ForSequenceClassification": "scalar",
}

# Ours -> theirs. The first group must be there; the second has the defaults of transformers, whose
# types count: version 5 refuses an int where it declares a float, and the other way round.
REQUIRED = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "embed_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
}
WHOLE = {"head_dim", "sliding_window", "max_position"}  # the others are real numbers
DEFAULTED = {
    "head_dim": ("head_dim", 256),
    "query_pre_attn_scalar": ("query_pre_attn_scalar", 256),
    "sliding_window": ("sliding_window", 4096),
    "attn_logit_softcap": ("attn_logit_softcapping", 50.0),
    "final_logit_softcap": ("final_logit_softcapping", 30.0),
    "rms_norm_eps": ("rms_norm_eps", 1e-6),
    "max_position": ("max_position_embeddings", 8192),
}
# What a config may ask for that would need other code than ours: key -> the values that are fine.
# `hidden_act` is not among them: Gemma-2 uses the tanh GELU whatever it says.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "tie_word_embeddings": (True,),
    "attention_bias": (False, None),
    "use_bidirectional_attention": (False, None),
}


def config_from_hf(folder: str | Path) -> tuple[Gemma2Config, Literal["lm", "scalar"]]:
    """Reads `folder`/config.json: the numbers, and which head its weights have.

    Raises:
        FileNotFoundError: no config.json.
        ValueError: not Gemma-2, or a Gemma-2 that this code does not compute; says which key.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: a model folder holds a config.json.")
    raw = read_object(path)
    if raw.get("model_type") != "gemma2":
        raise ValueError(
            f"{path}: model_type is {raw.get('model_type')!r}, but only 'gemma2' runs here; give a "
            "Gemma-2 folder."
        )
    _check_precision(raw, path)
    numbers: dict[str, Any] = {
        ours: _whole(raw.get(theirs), theirs, path) for ours, theirs in REQUIRED.items()
    }
    for ours, (theirs, default) in DEFAULTED.items():
        numbers[ours] = raw.get(theirs, default)
        if numbers[ours] is None:
            raise ValueError(
                f"{path}: {theirs} is null, but Gemma-2 here always has one ({default} as "
                "published); write the number."
            )
        check = _whole if ours in WHOLE else _positive
        numbers[ours] = check(numbers[ours], theirs, path)
    for key, allowed in FIXED.items():
        if key in raw and raw[key] not in allowed:
            raise ValueError(
                f"{path}: {key} is {raw[key]!r}, but only {allowed[0]!r} is computed here."
            )
    _check_layer_types(raw, numbers["num_layers"], path)
    return Gemma2Config(**numbers, rope_theta=_rope_theta(raw, path)), _head(raw, path)


def _whole(value: Any, key: str, path: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ValueError(f"{path}: {key} must be a whole number, 1 or more, but is {value!r}.")
    return value


def _positive(value: Any, key: str, path: Path) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise ValueError(f"{path}: {key} must be a number above 0, but is {value!r}.")
    return value


def _check_precision(raw: dict[str, Any], path: Path) -> None:
    """Refuses weights that are packed into fewer bits: bitsandbytes, GPTQ, AWQ, FP8, .."""
    packed = raw.get("quantization_config")
    if packed:
        method = packed.get("quant_method") if isinstance(packed, dict) else None
        raise ValueError(
            f"{path}: the weights are quantised (quantization_config: {method or packed!r}), and "
            "only float32, bfloat16 and float16 are read. Give the model that was quantised."
        )


def _check_layer_types(raw: dict[str, Any], num_layers: int, path: Path) -> None:
    wanted = ["sliding_attention", "full_attention"] * (num_layers // 2)
    found = raw.get("layer_types") or wanted
    if num_layers % 2 == 0 and found != wanted:
        raise ValueError(
            f"{path}: layer_types must alternate sliding_attention and full_attention, beginning "
            f"with sliding, over {num_layers} layers, but is {found}."
        )


def _rope_theta(raw: dict[str, Any], path: Path) -> float:
    """The rotary base: `rope_parameters` in version 5, `rope_theta` before."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ValueError(f"{path}: the rope parameters must be an object, but are {rope!r}.")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ValueError(f"{path}: rope_type is {kind!r}, but only 'default' is computed here.")
    theta = rope.get("rope_theta", raw.get("rope_theta", 10_000.0))
    return float(_positive(theta, "rope_theta", path))


def _head(raw: dict[str, Any], path: Path) -> Literal["lm", "scalar"]:
    names = raw.get("architectures") or []
    if not isinstance(names, list) or len(names) != 1 or str(names[0]) not in ARCHITECTURES:
        raise ValueError(
            f"{path}: architectures is {names!r}, but must be one of "
            f"{', '.join(ARCHITECTURES)}, in a list."
        )
    head = ARCHITECTURES[names[0]]
    told = raw.get("id2label")
    labels = len(told) if told and isinstance(told, dict) else raw.get("num_labels", 2)
    if head == "scalar" and labels != 1:
        raise ValueError(f"{path}: a scalar reward has one label, but this has {labels}.")
    return head


def config_to_hf(
    config: Gemma2Config,
    head: Literal["lm", "scalar"],
    dtype: str,
    *,
    pad_id: int = 0,
    eos_id: int = 1,
    bos_id: int = 2,
) -> dict[str, Any]:
    """The content of a config.json that transformers 4 and 5 and vLLM read the same way."""
    architecture = next(name for name, value in ARCHITECTURES.items() if value == head)
    theirs: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "gemma2",
        "layer_types": ["sliding_attention", "full_attention"] * config.num_pairs,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "rope_theta": float(config.rope_theta),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(config.rope_theta)},
        "dtype": dtype,
        "torch_dtype": dtype,
        "pad_token_id": pad_id,
        "eos_token_id": eos_id,
        "bos_token_id": bos_id,
    }
    for ours, key in REQUIRED.items():
        theirs[key] = getattr(config, ours)
    for ours, (key, default) in DEFAULTED.items():
        value = getattr(config, ours)
        typed = type(default)(value)
        theirs[key] = typed if typed == value else value
    if head == "scalar":
        theirs |= {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return theirs
