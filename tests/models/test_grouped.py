"""Products of rows by group: the TPU's way, interpreted on the CPU, and as it is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.aot.counts import count
from grm_jax.aot.topology import Topology
from grm_jax.mesh import MeshConfig
from grm_jax.models.grouped import ROWS, SIDE, _for_tpu, grouped_dot
from grm_jax.sharding import make_mesh


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("rows", "sizes", "sides"),
    [
        (2 * ROWS + 188, [0, 3, ROWS, 0, 400, 41, 0], (24, 40)),  # whole, none, and across blocks
        (ROWS, [ROWS, 0], (16, 8)),
        (64, [0, 0], (8, 8)),  # all are somebody else's
        (ROWS + 1, [100, ROWS - 99], (SIDE + 130, 16)),
    ],
)
def test_gradients_are_those_of_ragged_dot_whatever_is_in_rows_of_nobody(
    rows, sizes, sides, monkeypatch
):
    x, matrices, out = normal(rows, sides[0]), normal(len(sizes), *sides), normal(rows, sides[1])
    counts, owned = jnp.asarray(sizes, jnp.int32), (jnp.arange(rows) < sum(sizes))[:, None]

    def gradients(dot, other):
        given = jnp.where(owned, x, other)
        _, pull = jax.vjp(lambda x, matrices: dot(x, matrices, counts), given, matrices)
        return pull(jnp.where(owned, out, other))

    def undefined(x, matrices, sizes):
        return jnp.where(owned, jax.lax.ragged_dot(x, matrices, sizes), jnp.nan)

    monkeypatch.setattr("grm_jax.models.grouped._dot", undefined)
    found = gradients(lambda *given: _for_tpu(*given, True), jnp.nan)
    for ours, theirs in zip(found, gradients(jax.lax.ragged_dot, 0.0), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(initial=1))


def test_on_a_tpu_each_row_meets_one_matrix_in_gradients_too():
    topology, shape = Topology("v5e:2x2"), (512, 8, 128, 256)
    rows, groups, d, f = shape
    given = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((rows, d), (groups, d, f))]

    def loss(x, matrices, sizes):
        return jnp.sin(grouped_dot(x, matrices, sizes).astype(jnp.float32)).sum()

    with jax.set_mesh(make_mesh(MeshConfig(), topology.devices()[:1])):
        lowered = jax.jit(jax.grad(loss, (0, 1))).lower(
            *given, jax.ShapeDtypeStruct((groups,), jnp.int32)
        )
        counts = count(lowered.compile().as_text())
    assert counts.flops == 3 * 2 * rows * d * f  # forward, and two gradients
