"""The configs of all families, and the sizes that have a name; nothing here needs jax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from grm_jax.models.families import deepseek, gemma2, gemma3, llama, qwen2, qwen3
from grm_jax.models.families.deepseek import DeepSeekConfig
from grm_jax.models.families.gemma2 import Gemma2Config
from grm_jax.models.families.gemma3 import Gemma3Config
from grm_jax.models.families.llama import LlamaConfig
from grm_jax.models.families.qwen2 import Qwen2Config
from grm_jax.models.families.qwen3 import Qwen3Config
from grm_jax.models.family import Family
from grm_jax.models.spec import LinearScaling, Llama3Scaling, Rope, YarnScaling

__all__ = [
    "FAMILIES",
    "PRESETS",
    "Config",
    "DeepSeekConfig",
    "Gemma2Config",
    "Gemma3Config",
    "LlamaConfig",
    "Qwen2Config",
    "Qwen3Config",
    "Remat",
    "from_saved",
]

# What the backward pass makes a second time instead of keeping it: nothing; the weights of
# attention; all but the products with weight matrices; all.
Remat = Literal["none", "attention", "dots", "full"]

# A family's own numbers, of which its `spec` follows.
Config = Gemma2Config | Gemma3Config | Qwen2Config | Qwen3Config | LlamaConfig | DeepSeekConfig

FAMILIES: dict[str, Family] = {
    "gemma2": gemma2.FAMILY,
    "gemma3": gemma3.FAMILY,
    "qwen3": qwen3.FAMILY,
    "qwen2": qwen2.FAMILY,
    "llama": llama.FAMILY,
    "deepseek_v2": deepseek.V2,
    "deepseek_v3": deepseek.V3,
}

PRESETS: dict[str, Config] = {
    **gemma2.PRESETS,
    **gemma3.PRESETS,
    **qwen3.PRESETS,
    **qwen2.PRESETS,
    **llama.PRESETS,
    **deepseek.PRESETS,
}

_SCALINGS = {"linear": LinearScaling, "llama3": Llama3Scaling, "yarn": YarnScaling}


def from_saved(saved: Mapping[str, Any]) -> Config:
    """The config that `dataclasses.asdict` made this of; Gemma-2's where no family is named."""
    numbers = {
        key: _rope(value) if isinstance(value, Mapping) else value for key, value in saved.items()
    }
    return FAMILIES[saved.get("family", "gemma2")].config(**numbers)


def _rope(saved: Mapping[str, Any]) -> Rope:
    scaling = saved["scaling"]
    return Rope(saved["base"], scaling and _SCALINGS[scaling["kind"]](**scaling))
