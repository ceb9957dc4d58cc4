"""What a training run carries from step to step, and the sharding of each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grm_jax import sharding


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """`step` updates have been made (i32 scalar); the weights that are trained; the optimiser's
    moments; the weights that are not trained, if there are such."""

    step: Any
    params: Any
    opt_state: Any
    frozen: Any = None


class Weights(Protocol):
    """What is trained: a `Model`'s parameters, or an `Adapter`'s."""

    def abstract(self) -> Any:
        """The shapes and dtypes."""
        ...

    def axes(self) -> Any:
        """The names of every dimension, in the same structure."""
        ...


def new_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def placed_state(
    params: Any, optimizer: optax.GradientTransformation, shardings: TrainState
) -> TrainState:
    """The state before the first step, laid out; the memory of `params` is reused."""
    new = lambda p: new_state(p, optimizer)  # noqa: E731
    return jax.jit(new, out_shardings=shardings, donate_argnums=0)(params)


def state_shardings(
    model: Weights,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rules: sharding.Rules = sharding.TRAIN_RULES,
) -> TrainState:
    """A NamedSharding for every leaf: moments lie where their weights lie, scalars everywhere.

    Raises:
        ValueError: the mesh does not divide a weight (a sentence that names it).
    """
    axes, everywhere = model.axes(), NamedSharding(mesh, PartitionSpec())
    sharding.check_divisible(model.abstract(), axes, mesh, rules)
    params = sharding.shardings_of(axes, mesh, rules)
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, where: where,
        jax.eval_shape(optimizer.init, model.abstract()),
        params,
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(everywhere, params, opt_state)


def abstract_state(
    model: Weights, optimizer: optax.GradientTransformation, shardings: TrainState
) -> TrainState:
    """Shapes, dtypes and shardings without a single weight: what a checkpoint is read onto."""
    shapes = jax.eval_shape(lambda p: new_state(p, optimizer), model.abstract())
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        shapes,
        shardings,
    )
