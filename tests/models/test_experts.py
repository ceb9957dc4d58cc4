"""A mixture of experts equals the sum that defines it, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.aot.flops import head_size, trunk_size
from grm_jax.bench.work import prefill_work
from grm_jax.models.config import PRESETS
from grm_jax.models.experts import InStack, Matrices, choose, mixed
from grm_jax.models.model import Model
from grm_jax.models.spec import Experts, Gate
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, shardings_of
from tests.test_sharding import (
    BATCH,
    LATENT,
    TIME,
    assert_close,
    decode_program,
    mesh_of,
    random_params,
    tokens_of,
    train_program,
)

GATE = Gate("sigmoid", groups=4, top_groups=2, group_best=2, corrected=True, normalized=True)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_no_token_is_dropped_and_gradients_are_those_of_the_sum():
    """Also where one expert has all tokens, and others have none."""
    matrices = Matrices(normal(8, 6, 5), normal(8, 6, 5, seed=1), normal(8, 5, 6, seed=2))
    logits = normal(2, 9, 8, seed=3).at[..., 3].add(9.0).at[..., 5].add(-9.0)
    x, bias = normal(2, 9, 6, seed=4), jnp.zeros(8)
    loads = np.bincount(np.ravel(choose(GATE, 3, logits, bias).expert), minlength=8)
    assert loads[3] == 18
    assert loads[5] == 0

    def chosen(matrices, logits, x):
        return jnp.sin(mixed(matrices, choose(GATE, 3, logits, bias), x, jax.nn.silu))

    def defined(matrices, logits, x):
        routed = choose(GATE, 3, logits, bias)
        weights = jnp.zeros((2, 9, 8))
        for k in range(3):
            weights += jax.nn.one_hot(routed.expert[..., k], 8) * routed.weight[..., k, None]
        gate = jax.nn.silu(jnp.einsum("btd,edf->btef", x, matrices.gate))
        inner = gate * jnp.einsum("btd,edf->btef", x, matrices.up)
        return jnp.sin(jnp.einsum("btef,efd,bte->btd", inner, matrices.down, weights))

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *a, f=f: f(*a).sum(), (0, 1, 2)))(matrices, logits, x)
        for f in (chosen, defined)
    )
    assert_close(ours, theirs)


def test_a_gate_by_hand():
    """The bias moves the choice and not the weight; two groups of two, of which one counts."""
    logits = jnp.log(jnp.asarray([[[0.4, 0.1, 0.3, 0.2]]]))
    one = choose(Gate("softmax", scale=2.0), 2, logits, None)
    assert one.expert.tolist() == [[[0, 2]]]
    np.testing.assert_allclose(one.weight, [[[0.8, 0.6]]], rtol=1e-6)
    grouped = Gate("softmax", groups=2)
    assert choose(grouped, 2, logits, None).expert.tolist() == [[[0, 1]]]
    pairs = choose(
        Gate("softmax", groups=2, group_best=2, normalized=True),
        2,
        logits,
        jnp.array([0, 0, 0, 0.2]),
    )
    assert pairs.expert.tolist() == [[[3, 2]]]
    np.testing.assert_allclose(pairs.weight, [[[0.4, 0.6]]], rtol=1e-6)


@pytest.mark.slow
def test_latents_and_experts_on_a_mesh_equal_one_device():
    params, mesh = random_params(LATENT), mesh_of((2, 2, 2))
    tokens, positions = tokens_of(BATCH, TIME), np.tile(np.arange(TIME, dtype=np.int32), (BATCH, 1))
    placed = jax.device_put(params, shardings_of(LATENT.axes(), mesh, TRAIN_RULES))
    assert "tensor" in placed["expert_layers"]["mixed"]["experts_up"].sharding.spec
    with jax.set_mesh(mesh):
        ours = train_program(LATENT, placed, tokens, positions)
    assert_close(ours, train_program(LATENT, params, tokens, positions))
    given = tokens_of(8, 1, TIME), np.full((8, 1), TIME), tokens_of(8, 1, 2, 3)
    placed = jax.device_put(params, shardings_of(LATENT.axes(), mesh, DECODE_RULES))
    with jax.set_mesh(mesh):
        ours = decode_program(LATENT, placed, *given)
    assert_close(ours, decode_program(LATENT, params, *given))


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("deepseek-v2-lite", 2_661_023_744),
        ("deepseek-v2.5", 21_375_057_920),
        ("deepseek-v3", 37_551_276_032),
    ],
)
def test_a_token_costs_the_experts_that_it_goes_to(name, active):
    """The published 2.7, 21 and 37 billion, which count both tables; no norms."""
    model = Model(PRESETS[name])
    assert trunk_size(model) + 2 * head_size(model) == active
    once = prefill_work(model, 1).flops / 2
    assert once == pytest.approx(trunk_size(model) + head_size(model), rel=1e-3)


def test_numbers_that_no_mixture_has_are_refused():
    with pytest.raises(ValueError, match="multiple of n_group"):
        Experts(9, 2, 4, 4, "silu", GATE)
    with pytest.raises(ValueError, match=r"topk_group \(5\) is more than n_group"):
        Experts(8, 2, 4, 4, "silu", Gate("softmax", groups=4, top_groups=5))
    with pytest.raises(ValueError, match="only 4 experts to choose from"):
        Experts(8, 5, 4, 4, "silu", GATE)


@pytest.mark.slow
def test_experts_of_a_layer_are_found_in_the_stack_of_all():
    """As on a TPU, which would copy a slice: the same numbers, on one device and on four."""
    stacks = Matrices(normal(3, 8, 16, 4), normal(3, 8, 16, 4, seed=1), normal(3, 8, 4, 16, seed=2))
    x = normal(4, 5, 16, seed=3)
    routed = choose(Gate("softmax"), 2, normal(4, 5, 8, seed=4), None)
    for layer in (0, 2):
        apart = Matrices(*(stack[layer] for stack in stacks))
        within = Matrices(*(InStack(stack, layer) for stack in stacks))
        expected = mixed(apart, routed, x, jax.nn.silu)
        np.testing.assert_allclose(mixed(within, routed, x, jax.nn.silu), expected, rtol=1e-6)
        with jax.set_mesh(mesh_of((1, 1, 4))):
            found = mixed(within, routed, x, jax.nn.silu)
        np.testing.assert_allclose(found, expected, atol=1e-5)
