"""config.json: transformers' spelling of a family's config, version 4's and 5's, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grm_jax.models.config import FAMILIES, Config
from grm_jax.models.family import Family, Number
from grm_jax.models.gguf import read_config
from grm_jax.models.hf_folder import adapter_head, base_folder, is_adapter
from grm_jax.models.spec import Head
from grm_jax.text.files import read_object
from grm_jax.text.gguf_file import find_gguf


def config_from_hf(folder: str | Path) -> tuple[Config, Head]:
    """Reads `folder`/config.json, or the metadata of a GGUF file: the numbers, and which head its
    weights have.

    Of an adapter those of its model; a scalar head may be its own.

    Raises:
        FileNotFoundError: no config.json.
        ValueError: no family of ours, or one of it that this code does not compute; says which key.
    """
    if is_adapter(folder := Path(folder)):
        config, head = config_from_hf(base_folder(folder))
        return config, adapter_head(folder) or head
    path = find_gguf(folder) or folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: a model folder holds a config.json.")
    raw = read_object(path) if path.name == "config.json" else read_config(path)
    family = _family(raw, path)
    _check_precision(raw, path)
    text = raw
    if family.text_config and isinstance(raw.get(family.text_config), dict):
        text = raw[family.text_config]
        _check_precision(text, path)
    numbers = {ours: _read(number, text, family, path) for ours, number in family.numbers.items()}
    for key, allowed in family.fixed.items():
        if key in text and text[key] not in allowed:
            raise ValueError(
                f"{path}: {key} is {text[key]!r}, but only {allowed[0]!r} is computed here."
            )
    for ours, (key, default) in family.flags.items():
        numbers[ours] = text.get(key, default)
        if not isinstance(numbers[ours], bool):
            raise ValueError(f"{path}: {key} must be true or false, but is {numbers[ours]!r}.")
    try:
        numbers |= family.rope(text) | family.read(text)
        config = family.config(**numbers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    _check_layer_types(text, family, config, path)
    return config, _head(raw, family, path)


def _family(raw: Mapping[str, Any], path: Path) -> Family:
    found = raw.get("model_type")
    for family in FAMILIES.values():
        if found in family.model_types:
            return family
    known = [name for family in FAMILIES.values() for name in family.model_types]
    titles = ", ".join(family.title for family in FAMILIES.values())
    raise ValueError(
        f"{path}: model_type is {found!r}, but only {', '.join(map(repr, known))} run here; give a "
        f"folder of one of these families: {titles}."
    )


def _read(number: Number, raw: Mapping[str, Any], family: Family, path: Path) -> int | float | None:
    value = raw.get(number.key)
    if value is None and number.none and number.key in raw:
        return None
    if value is None and (number.null or number.key not in raw) and number.default is not None:
        value = number.default(raw) if callable(number.default) else number.default
    elif value is None and number.key in raw and number.default is not None:
        published = "" if callable(number.default) else f" ({number.default} as published)"
        raise ValueError(
            f"{path}: {number.key} is null, but {family.title} here always has one{published}; "
            "write the number."
        )
    if number.whole:
        return _whole(value, number.key, path, number.least)
    return _positive(value, number.key, path)


def _whole(value: Any, key: str, path: Path, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise ValueError(
            f"{path}: {key} must be a whole number, {least} or more, but is {value!r}."
        )
    return value


def _positive(value: Any, key: str, path: Path) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise ValueError(f"{path}: {key} must be a number above 0, but is {value!r}.")
    return value


def _check_precision(raw: Mapping[str, Any], path: Path) -> None:
    """Refuses weights that are packed into fewer bits: bitsandbytes, GPTQ, AWQ, FP8, .."""
    packed = raw.get("quantization_config")
    if packed:
        method = packed.get("quant_method") if isinstance(packed, dict) else None
        way = "Give the model that was quantised."
        if method == "fp8" and isinstance(packed, dict) and packed.get("weight_block_size"):
            way = (
                "DeepSeek's own fp8_cast_bf16.py makes bfloat16 of such blocks: give what it "
                "writes, with quantization_config taken out of its config.json."
            )
        raise ValueError(
            f"{path}: the weights are quantised (quantization_config: {method or packed!r}), and "
            f"only float32, bfloat16 and float16 are read. {way}"
        )


def _check_layer_types(raw: Mapping[str, Any], family: Family, config: Config, path: Path) -> None:
    if family.layer_types is None:
        return
    found, wanted = raw.get("layer_types"), family.layer_types(config)
    if found and found != wanted:
        raise ValueError(
            f"{path}: layer_types must {family.layers}, over {len(wanted)} layers, but is {found}."
        )


def _head(raw: Mapping[str, Any], family: Family, path: Path) -> Head:
    names = raw.get("architectures") or []
    if not isinstance(names, list) or len(names) != 1 or str(names[0]) not in family.heads:
        raise ValueError(
            f"{path}: architectures is {names!r}, but must be one of "
            f"{', '.join(family.heads)}, in a list."
        )
    head = family.heads[names[0]]
    told = raw.get("id2label")
    labels = len(told) if told and isinstance(told, dict) else raw.get("num_labels", 2)
    if head == "scalar" and labels != 1:
        raise ValueError(f"{path}: a scalar reward has one label, but this has {labels}.")
    return head


def config_to_hf(
    config: Config,
    head: Head,
    dtype: str,
    *,
    pad_id: int | None = 0,
    eos_id: int | None = 1,
    bos_id: int | None = 2,
) -> dict[str, Any]:
    """The content of a config.json that transformers 4 and 5 and vLLM read the same way."""
    family = FAMILIES[config.family]
    theirs: dict[str, Any] = {
        "architectures": [next(name for name, value in family.heads.items() if value == head)],
        "model_type": family.model_types[0],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        **family.constants,
        **family.rope_to_hf(config),
        **family.write(config),
        "dtype": dtype,
        "torch_dtype": dtype,
        "pad_token_id": pad_id,
        "eos_token_id": eos_id,
        "bos_token_id": bos_id,
    }
    if family.layer_types:
        theirs["layer_types"] = family.layer_types(config)
    for ours, number in family.numbers.items():
        value = getattr(config, ours)
        typed = value
        if value is None:
            pass
        elif number.default is not None and not callable(number.default):
            typed = type(number.default)(value)
        theirs[number.key] = typed if typed == value else value
    for ours, (key, _) in family.flags.items():
        theirs[key] = getattr(config, ours)
    if head == "scalar":
        # Without the problem's type vLLM squashes the score.
        theirs |= {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        theirs["problem_type"] = "regression"
    return theirs
