"""The models that are measured, with random weights, and the sampler that draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from grm_jax.bench.config import Size
from grm_jax.models.config import PRESETS, Gemma2Config
from grm_jax.models.model import Model
from grm_jax.sampling.sampler import Sampler
from grm_jax.sampling.strategy import Strategy

SMALL = Gemma2Config(32_768, 6, 512, 2048, 8, 4, 64, 64.0, sliding_window=128, max_position=4096)


def shape_of(size: Size, *, training: bool = False) -> Model:
    """The model of a size, without weights: bfloat16 but for "small", which is for CPUs; where it
    is trained, weights are float32."""
    if size == "small":
        return Model(SMALL)
    stored = "float32" if training else "bfloat16"
    return Model(PRESETS[size], dtype="bfloat16", param_dtype=stored)


def random_params(model: Model) -> Any:
    """Random weights, made on the device."""
    return jax.block_until_ready(jax.jit(model.init)(jax.random.key(0)))


def make_sampler(
    model: Model,
    params: Any,
    *,
    slots: int,
    new: int,
    stop_ids: Sequence[int] = (),
    temperature: float = 1.0,
    seed: int = 0,
) -> Sampler:
    """A sampler of exactly so many slots."""
    return Sampler(
        model,
        params,
        stop_ids=stop_ids,
        strategy=Strategy(temperature=temperature),
        seed=seed,
        max_new_tokens=new,
        slots=slots,
    )


def slots_of(sampler: Sampler) -> int:
    """How many samples it decodes at once."""
    return sampler.slots
