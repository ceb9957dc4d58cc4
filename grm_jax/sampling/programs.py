"""The sampling programs, jitted: what the engine runs, and what `grm aot` looks at."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import jax
from jax.sharding import Mesh, SingleDeviceSharding

from grm_jax.models import cache as kv
from grm_jax.models.decoding import split_layers
from grm_jax.models.model import Model
from grm_jax.sampling import generate, state
from grm_jax.sampling.state import Prompts, Slots
from grm_jax.sharding import DECODE_RULES, shardings_of

EXTEND = jax.jit(generate.extend, static_argnums=0)
STORE = jax.jit(generate.store, static_argnums=0, donate_argnames="prompts")
COPY = jax.jit(generate.copy, donate_argnames="prompts")
ADVANCE = jax.jit(
    generate.advance, static_argnums=0, static_argnames=("steps", "places"), donate_argnames="slots"
)
SPLIT = jax.jit(split_layers)


def new_prompts(model: Model, lanes: int, prompts: int, length: int, mesh: Mesh | None) -> Prompts:
    """Empty prompts on the devices, see `state.empty_prompts`."""
    return _empty(state.empty_prompts, state.prompt_axes, model, mesh)(
        model, lanes, prompts, length
    )


def new_slots(model: Model, lanes: int, slots: int, new: int, mesh: Mesh | None) -> Slots:
    """Empty slots on the devices, see `state.empty_slots`."""
    return _empty(state.empty_slots, state.slot_axes, model, mesh)(model, lanes, slots, new)


@lru_cache
def _empty(make: Any, axes: Any, model: Model, mesh: Mesh | None) -> Any:
    # Placed on purpose, as what the programs give back is: they would be compiled again for it.
    here = SingleDeviceSharding(jax.devices()[0])
    places = here if mesh is None else shardings_of(axes(model), mesh, DECODE_RULES)
    return jax.jit(make, static_argnums=(0, 1, 2, 3), out_shardings=places)


@partial(jax.jit, static_argnums=(0, 2))
def lengthened(model: Model, prompts: Prompts, length: int) -> Prompts:
    """The prompts with room for `length` tokens each. Where a layer's ring grows, no prompt has
    gone round it yet, so that its tokens stay where they are."""
    lanes, rows, _ = prompts.last.shape
    empty = kv.empty_prompts(model.config, lanes, rows, length, model.dtype)
    cache = jax.tree.map(
        lambda new, old: jax.lax.dynamic_update_slice(new, old, (0,) * old.ndim),
        empty,
        prompts.cache,
    )
    return Prompts(cache, prompts.last)
