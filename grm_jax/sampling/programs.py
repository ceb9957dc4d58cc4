"""The sampling programs, jitted: what the engine runs, and what `grm aot` looks at."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, SingleDeviceSharding

from grm_jax.models import cache as kv
from grm_jax.models.decoding_layers import split_layers
from grm_jax.models.model import Model
from grm_jax.models.quantized import is_quantized
from grm_jax.models.transformer import Params
from grm_jax.sampling import generate, state
from grm_jax.sampling.state import Prompts, Slots
from grm_jax.sharding import DECODE_RULES, shardings_of

STORE = jax.jit(generate.store, static_argnums=0, donate_argnames="prompts")
COPY = jax.jit(generate.copy, donate_argnames="prompts")
_SPLIT = jax.jit(split_layers, static_argnums=1)


CONVERTING = "cpu, converting"

# By what `options_for` says; none for TPUs.
_OPTIONS = {
    # The compiler would convert the weights of all layers at once, and keep them: before the loop
    # over tokens, and to run parts of several layers side by side. Where there is nothing to
    # convert, just that saves a tenth to a fifth of the time.
    CONVERTING: {
        "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    },
    # The loop over tokens as one graph: the host does not start its thousand kernels one by one.
    "gpu": {
        "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,"
        "DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE",
        "xla_gpu_graph_min_graph_size": "1",
    },
}


def options_for(params: Params, dtype: str) -> str:
    """The platform, as the programs ask for it. On a CPU it matters too whether products of these
    weights, computed in `dtype`, convert them to float32."""
    platform = jax.default_backend()
    leaves = jax.tree.leaves(params, is_leaf=is_quantized)
    converts = dtype != "float32" or any(map(is_quantized, leaves))
    return CONVERTING if platform == "cpu" and converts else platform


def split(params: Params, dtype: str) -> Params:
    """`split_layers`, jitted; what it leaves as it is, such as the embedding, is not copied."""
    kept = {
        name: leaf
        for name, leaf in params.items()
        if not isinstance(leaf, dict) and leaf.dtype == jnp.dtype(dtype)
    }
    rest = {name: leaf for name, leaf in params.items() if name not in kept}
    return {**kept, **_SPLIT(rest, dtype)}


@lru_cache
def extend(*, platform: str) -> Any:
    """`generate.extend`, jitted."""
    options = _OPTIONS.get(platform)
    return jax.jit(generate.extend, static_argnums=0, compiler_options=options)


@lru_cache
def advance(*, platform: str) -> Any:
    """`generate.advance`, jitted; gives the slots back in the memory that they came in."""
    return jax.jit(
        generate.advance,
        static_argnums=0,
        static_argnames=("steps", "places"),
        donate_argnames="slots",
        compiler_options=_OPTIONS.get(platform),
    )


def new_prompts(model: Model, lanes: int, prompts: int, length: int, mesh: Mesh | None) -> Prompts:
    """Empty prompts on the devices, see `state.empty_prompts`."""
    sizes = (lanes, prompts, length)
    return _maker(state.empty_prompts, state.prompt_axes, model, mesh, sizes)()


def new_slots(model: Model, lanes: int, slots: int, new: int, mesh: Mesh | None) -> Slots:
    """Empty slots on the devices, see `state.empty_slots`."""
    return _maker(state.empty_slots, state.slot_axes, model, mesh, (lanes, slots, new))()


def lengthened(
    model: Model, prompts: Prompts, before: int, length: int, mesh: Mesh | None
) -> Prompts:
    """The prompts, which had room for `before` tokens each, with room for `length`."""
    sizes = (*prompts.cache.lengths.shape, length, before)
    more = _maker(state.empty_prompts, state.prompt_axes, model, mesh, sizes)()
    return Prompts(kv.lengthened(prompts.cache, more.cache), prompts.last)


def with_more_rows(
    model: Model, prompts: Prompts, rows: int, length: int, mesh: Mesh | None
) -> Prompts:
    """The prompts, with so many rows more in each lane."""
    lanes = prompts.cache.lengths.shape[0]
    more = _maker(state.empty_prompts, state.prompt_axes, model, mesh, (lanes, rows, length))()
    return _side_by_side(model, mesh)(prompts, more)


@lru_cache
def _side_by_side(model: Model, mesh: Mesh | None) -> Callable[[Prompts, Prompts], Prompts]:
    join = partial(jax.tree.map, lambda left, right: jnp.concatenate([left, right], axis=1))
    return jax.jit(join, out_shardings=_places(state.prompt_axes, model, mesh))


@lru_cache
def _maker(
    make: Any, axes: Any, model: Model, mesh: Mesh | None, sizes: tuple[int, ...]
) -> Callable[[], Any]:
    return jax.jit(partial(make, model, *sizes), out_shardings=_places(axes, model, mesh))


def _places(axes: Any, model: Model, mesh: Mesh | None) -> Any:
    # Placed on purpose, as what the programs give back is: they would be compiled again for it.
    here = SingleDeviceSharding(jax.devices()[0])
    return here if mesh is None else shardings_of(axes(model), mesh, DECODE_RULES)
