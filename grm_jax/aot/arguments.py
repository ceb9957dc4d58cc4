"""The abstract arguments of programs: shapes and types, laid out on a mesh, and no numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from grm_jax.aot.work import Work
from grm_jax.data.pipeline import Batch
from grm_jax.models.config import Config
from grm_jax.models.model import Model
from grm_jax.sharding import (
    DECODE_RULES,
    Rules,
    check_divisible,
    shardings_of,
    spec_for,
)
from grm_jax.train.rollout import RolloutBatch
from grm_jax.train.step import batch_sharding


def trained_model(config: Config) -> Model:
    """A model that is trained: weights in f32, arithmetic in bf16."""
    return Model(config, dtype="bfloat16", param_dtype="float32")


def stored_model(config: Config) -> Model:
    """A model that is only run: weights in bf16 too."""
    return Model(config, dtype="bfloat16", param_dtype="bfloat16")


def params_of(model: Model, mesh: Mesh, rules: Rules) -> Any:
    """The weights.

    Raises:
        ValueError: the mesh does not divide them.
    """
    check_divisible(model.abstract(), model.axes(), mesh, rules)
    return _placed(model.abstract(), model.axes(), mesh, rules)


def _placed(shapes: Any, axes: Any, mesh: Mesh, rules: Rules) -> Any:
    """The abstract arrays, laid out on the mesh; an entry of `axes` may stand for several."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        jax.tree.broadcast(shardings_of(axes, mesh, rules), shapes),
    )


def bytes_per_device(model: Model, mesh: Mesh, rules: Rules) -> int:
    """Bytes of the weights on one device."""
    leaves = jax.tree.leaves(params_of(model, mesh, rules))
    shards = ((leaf.sharding.shard_shape(leaf.shape), leaf.dtype.itemsize) for leaf in leaves)
    return sum(math.prod(shape) * size for shape, size in shards)


def batch_ways(mesh: Mesh) -> int:
    """Devices, or groups of them, that a batch is divided over."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def rows_of(mesh: Mesh, shape: tuple[int, ...], dtype: Any, rules: Rules) -> Any:
    """An array whose rows are spread over the data axes."""
    sharding = NamedSharding(mesh, spec_for(("batch",), rules))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def abstract_batch(mesh: Mesh, work: Work) -> Batch:
    """A batch of supervised training."""

    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))

    ids = of(jnp.int32, work.sequences, work.length)
    return Batch(
        tokens=ids,
        targets=ids,
        mask=of(jnp.bool_, work.sequences, work.length),
        positions=ids,
        segments=ids,
        too_long=of(jnp.int32, work.sequences),
    )


def abstract_rollouts(mesh: Mesh, work: Work) -> RolloutBatch:
    """A batch of GRPO."""

    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))

    prompts, group, row = work.grouped()
    prompt, written = (prompts, row.prompt), (prompts, group, row.completion)
    numbers = of(jnp.float32, *written)
    return RolloutBatch(
        prompts=of(jnp.int32, *prompt),
        prompt_positions=of(jnp.int32, *prompt),
        tokens=of(jnp.int32, *written),
        positions=of(jnp.int32, *written),
        advantage=of(jnp.float32, prompts, group),
        sampled_logprob=numbers,
        old_logprob=numbers,
        reference_logprob=numbers,
    )


def engine_state(make: Callable[[], Any], axes: Any, mesh: Mesh) -> Any:
    """What the engine keeps on the devices: what `make` returns."""
    return _placed(jax.eval_shape(make), axes, mesh, DECODE_RULES)


def pieces_of(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of pieces, [pieces, lanes, ..]: each piece is spread over the lanes."""
    sharding = NamedSharding(mesh, spec_for((None, "batch"), DECODE_RULES))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
