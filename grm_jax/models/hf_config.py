"""config.json: transformers' spelling of `Gemma2Config`, version 4's and 5's, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from grm_jax.models.config import Gemma2Config

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
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a model folder holds a config.json.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}).") from error
    if not isinstance(raw, dict) or raw.get("model_type") != "gemma2":
        found = raw.get("model_type") if isinstance(raw, dict) else None
        raise ValueError(
            f"{path}: model_type is {found!r}, but only 'gemma2' runs here; give a Gemma-2 folder."
        )
    numbers = {ours: _required(raw, theirs, path) for ours, theirs in REQUIRED.items()}
    for ours, (theirs, default) in DEFAULTED.items():
        numbers[ours] = raw.get(theirs, default)
        if numbers[ours] is None:
            raise ValueError(
                f"{path}: {theirs} is null, but Gemma-2 here always has one ({default} as "
                "published); write the number."
            )
    for key, allowed in FIXED.items():
        if key in raw and raw[key] not in allowed:
            raise ValueError(
                f"{path}: {key} is {raw[key]!r}, but only {allowed[0]!r} is computed here."
            )
    _check_layer_types(raw, numbers["num_layers"], path)
    return Gemma2Config(**numbers, rope_theta=_rope_theta(raw, path)), _head(raw, path)


def _required(raw: dict[str, Any], key: str, path: Path) -> int:
    if not isinstance(raw.get(key), int):
        raise ValueError(f"{path}: {key} must be a whole number, but is {raw.get(key)!r}.")
    return raw[key]


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
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ValueError(f"{path}: rope_type is {kind!r}, but only 'default' is computed here.")
    return float(rope.get("rope_theta", raw.get("rope_theta", 10_000.0)))


def _head(raw: dict[str, Any], path: Path) -> Literal["lm", "scalar"]:
    names = raw.get("architectures") or []
    if len(names) != 1 or names[0] not in ARCHITECTURES:
        raise ValueError(
            f"{path}: architectures is {names!r}, but must be one of "
            f"{', '.join(ARCHITECTURES)}, in a list."
        )
    head = ARCHITECTURES[names[0]]
    labels = len(raw.get("id2label") or range(raw.get("num_labels", 2)))
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
