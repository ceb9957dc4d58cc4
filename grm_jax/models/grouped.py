"""Rows that lie sorted by group, each times the matrix of its group.

The product is the compiler's own (`jax.lax.ragged_dot`), and so is the rows' gradient. For that of
the matrices a TPU's compiler multiplies all rows with zeros for every group, so there JAX's
Megablox kernel takes its place, which goes through each row once.
Letters: M rows, G groups, D and F the sides of a matrix.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.megablox.gmm import tgmm
from jaxtyping import Array, Float, Int

from grm_jax.sharding import for_tpu

# Rows, and entries of D and F, of a block: 5 MiB of fast memory, twice for what is under way. A
# block that holds rows of two groups is gone through for both, so more rows would be wasted work.
ROWS, SIDE = 256, 1024


def grouped_dot(
    rows: Float[Array, "M D"], matrices: Float[Array, "G D F"], sizes: Int[Array, " G"]
) -> Float[Array, "M F"]:
    """The first `sizes[0]` rows times the first matrix, and so on.

    If the sizes add up to less than M, the last rows belong to nobody: what comes out for them is
    undefined, and their gradient is 0.
    """
    return _for_tpu(rows, matrices, sizes) if for_tpu() else _dot(rows, matrices, sizes)


_dot = jax.lax.ragged_dot


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _for_tpu(rows: Array, matrices: Array, sizes: Array, interpret: bool = False) -> Array:
    return _dot(rows, matrices, sizes)


def _forward(
    rows: Array, matrices: Array, sizes: Array, interpret: bool
) -> tuple[Array, tuple[Array, Array, Array]]:
    return _dot(rows, matrices, sizes), (rows, matrices, sizes)


def _backward(
    interpret: bool, kept: tuple[Array, Array, Array], out: Float[Array, "M F"]
) -> tuple[Float[Array, "M D"], Float[Array, "G D F"], None]:
    rows, matrices, sizes = kept
    owned = jnp.arange(len(rows)) < sizes.sum()
    of_rows = jnp.where(owned[:, None], _dot(out, matrices.swapaxes(1, 2), sizes), 0)
    # The kernel wants whole blocks, and groups that add up to all rows: the last one is nobody's.
    pad = -len(rows) % ROWS
    padded = [jnp.pad(x, ((0, pad), (0, 0))) for x in (rows, out)]
    all_sizes = jnp.append(sizes, len(rows) + pad - sizes.sum())
    tiling = (ROWS, *(min(SIDE, side) for side in matrices.shape[1:]))
    of_matrices = tgmm(
        padded[0].T, padded[1], all_sizes, matrices.dtype, tiling,
        num_actual_groups=len(matrices), interpret=interpret,
    )  # fmt: skip
    return of_rows, of_matrices, None


_for_tpu.defvjp(_forward, _backward)
