"""A weight matrix with a low-rank change beside it (LoRA, Hu et al., arXiv 2106.09685).

W [O, I] becomes W + (alpha / rank) B A, with A [R, I] and B [O, R], which alone are trained. In
training the sum is never made: activations meet W and the change apart (`project`), so that the
backward pass makes no gradient of W, and the products with matrices cost about two forward passes,
not three. Sampling and files get the sum (`merged`). W may be in int8 (`models.quantized`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from grm_jax.models.family import Dims
from grm_jax.models.quantized import is_quantized, plain

Params = dict[str, Any]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weight", "a", "b"],
    meta_fields=["scale", "dims"],
)
@dataclass(frozen=True)
class Adapted:
    """A matrix and its change; all arrays may be stacked over periods, as the weight is.

    Attributes:
        weight: W, in the order of its dimensions here.
        a: A [R, I]. b: B [O, R]. Stacked, they may be of the last periods alone.
        scale: alpha / rank.
        dims: the dimensions of the weight that make O, and those that make I.
    """

    weight: Any
    a: Any
    b: Any
    scale: float
    dims: Dims

    def value(self) -> Float[Array, ...]:
        """W + scale B A in float32, of one period."""
        weight = plain(self.weight)
        shape = weight.shape
        order = [dim for merged in self.dims for dim in merged]
        change = (self.b @ self.a).reshape([shape[dim] for dim in order])
        change = change.transpose([order.index(dim) for dim in range(len(order))])
        return weight.astype(jnp.float32) + self.scale * change


def is_adapted(leaf: Any) -> bool:
    """Whether it is an `Adapted`."""
    return isinstance(leaf, Adapted)


def project(equation: str, x: Float[Array, "B T ..."], weight: Any) -> Float[Array, "B T ..."]:
    """What a matrix makes of activations, in their type: x W^T, or x W^T + scale (x A^T) B^T.

    weight: an array, one in int8 (`models.quantized`), or an `Adapted`.
    equation: einsum's, of x and the weight. In both x and the result the dimensions that a file
    merges into I and O come last, in its order.
    """
    if is_quantized(weight):
        return _frozen_product(equation, x, weight)
    if not isinstance(weight, Adapted):
        return _product(equation, x, weight)
    whole = _frozen_product(equation, x, weight.weight)
    rows = x.reshape(*x.shape[:2], -1)
    low = weight.scale * jnp.einsum("bti,ri->btr", rows, weight.a.astype(x.dtype))
    # With a batch of one, so that the remat policy "dots" makes it again and does not keep it.
    change = jnp.einsum("zbtr,zor->zbto", low[None], weight.b[None].astype(x.dtype))
    return whole + change.reshape(whole.shape)


def _product(equation: str, x: Array, weight: Any) -> Array:
    return jnp.einsum(equation, x, plain(weight).astype(x.dtype))


def _frozen_product(equation: str, x: Array, weight: Any) -> Array:
    """x W^T, where the backward pass makes W again in the type of x: those of all layers would be
    kept for it otherwise."""
    return jax.checkpoint(partial(_product, equation), prevent_cse=False)(x, weight)


def changed_apart(stacked: Params) -> tuple[Params, ...]:
    """The weights of a segment in parts of equal treatment, from below: the periods that no matrix
    is changed in, if there are such, and the others.

    No gradient goes into the former, where a scan of its own does not ask for one.
    """
    leaves = jax.tree.leaves(stacked, is_leaf=is_adapted)
    counts = {leaf.a.shape[0] for leaf in leaves if is_adapted(leaf)}
    total = jax.tree.leaves(stacked)[0].shape[0]
    if not counts or counts == {total}:
        return (stacked,)
    (count,) = counts
    first = total - count
    below = jax.tree.map(lambda leaf: leaf[:first], frozen_values(stacked))

    def above(leaf: Any) -> Any:
        if is_adapted(leaf):
            return replace(leaf, weight=jax.tree.map(lambda array: array[first:], leaf.weight))
        return leaf[first:]

    return below, jax.tree.map(above, stacked, is_leaf=is_adapted)


def frozen_values(params: Params) -> Params:
    """The weights without their changes; these are the same arrays."""
    return jax.tree.map(
        lambda leaf: leaf.weight if is_adapted(leaf) else leaf, params, is_leaf=is_adapted
    )


def merged(params: Params, dtype: str) -> Params:
    """The sums in `dtype` in place of all adapted matrices, and others that are in int8 in `dtype`,
    too; to be jitted."""

    def value(leaf: Any) -> Any:
        if not is_adapted(leaf):
            return plain(leaf).astype(dtype) if is_quantized(leaf) else leaf
        weight = plain(leaf.weight)
        first = weight.shape[0] - leaf.a.shape[0]
        changed = jax.vmap(Adapted.value)(replace(leaf, weight=weight[first:])).astype(dtype)
        return jnp.concatenate([weight[:first].astype(dtype), changed]) if first else changed

    return jax.tree.map(value, params, is_leaf=lambda leaf: is_adapted(leaf) or is_quantized(leaf))
