"""Rotary phases as config.json spells them: `rope_parameters` in version 5 of transformers,
`rope_theta` and `rope_scaling` before; nothing here needs jax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from grm_jax.models.spec import LinearScaling, Llama3Scaling, Rope, Scaling, YarnScaling


def read_rope(
    raw: Mapping[str, Any], default_base: float, kinds: Sequence[str] = ("default",)
) -> Rope:
    """The phases of a model that has one kind of them.

    Raises:
        ValueError: a kind that is none of `kinds`, or a number that is none.
    """
    told = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    base = raw.get("rope_theta", default_base)
    return rope_of(told, base, kinds, raw.get("max_position_embeddings"))


def rope_of(told: Any, base: Any, kinds: Sequence[str], max_position: Any) -> Rope:
    """What one object of config.json says; `base` and `max_position` where it does not."""
    if not isinstance(told, Mapping):
        raise ValueError(f"the rope parameters must be an object, but are {told!r}.")
    kind = told.get("rope_type", told.get("type", "default"))
    if kind not in kinds:
        names = " or ".join(map(repr, kinds))
        raise ValueError(f"rope_type is {kind!r}, but only {names} is computed here.")
    if told.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("partial_rotary_factor is not 1, but only whole heads are rotated here.")
    base = float(_positive(told.get("rope_theta", base), "rope_theta"))
    return Rope(base, None if kind == "default" else _scaling(kind, told, max_position))


def _scaling(kind: str, told: Mapping[str, Any], max_position: Any) -> Scaling:
    def number(key: str, default: Any = None) -> float:
        return float(_positive(told.get(key, default), key))

    factor = number("factor")
    if kind == "linear":
        return LinearScaling(factor)
    original = int(number("original_max_position_embeddings", max_position))
    if kind == "llama3":
        return Llama3Scaling(
            factor, number("low_freq_factor"), number("high_freq_factor"), original
        )
    if told.get("truncate", True) is not True:
        raise ValueError("truncate is false, but yarn is computed with whole dimensions here.")
    fast, slow = told.get("beta_fast") or 32.0, told.get("beta_slow") or 1.0
    attention = told.get("attention_factor")
    if attention is None:
        attention = _yarn_attention(factor, told.get("mscale"), told.get("mscale_all_dim"))
    return YarnScaling(factor, original, float(attention), float(fast), float(slow))


def _yarn_attention(factor: float, mscale: float | None, all_dim: float | None) -> float:
    def of(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    return of(mscale) / of(all_dim) if mscale and all_dim else of(1.0)


def _positive(value: Any, key: str) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise ValueError(f"{key} must be a number above 0, but is {value!r}.")
    return value


def rope_to_hf(rope: Rope) -> dict[str, Any]:
    """One object of `rope_parameters`."""
    return {"rope_type": "default", "rope_theta": float(rope.base)} | scaling_to_hf(rope.scaling)


def scaling_to_hf(scaling: Scaling | None) -> dict[str, Any]:
    """`rope_scaling` of version 4; nothing where there is none."""
    match scaling:
        case None:
            return {}
        case LinearScaling(factor):
            return {"rope_type": "linear", "factor": factor}
        case Llama3Scaling(factor, low, high, original):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
        case YarnScaling(factor, original, attention, fast, slow):
            return {
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original,
                "attention_factor": attention,
                "beta_fast": fast,
                "beta_slow": slow,
            }


def both_versions(rope: Rope) -> dict[str, Any]:
    """The keys that versions 4 and 5 read, of a model that has one kind of phases."""
    keys: dict[str, Any] = {"rope_theta": float(rope.base), "rope_parameters": rope_to_hf(rope)}
    if rope.scaling is not None:
        keys["rope_scaling"] = scaling_to_hf(rope.scaling)
    return keys
