"""Splash attention, interpreted on the CPU, equals the reference: outputs and all gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from grm_jax.aot.topology import Topology
from grm_jax.mesh import MeshConfig
from grm_jax.models.attention import attention, causal_attention, causal_mask
from grm_jax.models.config import Gemma2Config
from grm_jax.models.group_attention import group_attention
from grm_jax.models.model import Model
from grm_jax.models.splash import Group, block_size, splash_attention
from grm_jax.sharding import for_tpu, make_mesh

SOFTCAP = 3.0  # so low that logits of random queries and keys feel it
HEADS, KV_HEADS, SIZE = 4, 2, 128


def rows(*segments, length):
    """Positions and segments of one packed row, padded on the right."""
    positions = np.concatenate([np.arange(n) for n in segments])
    numbers = np.repeat(np.arange(len(segments)) + 1, segments)
    pad = length - len(positions)
    return np.pad(positions, (0, pad), constant_values=-1), np.pad(numbers, (0, pad))


def arrays(length, batch=2, width=SIZE):
    """`width`: of values, and of what comes out."""
    heads, sizes = (HEADS, HEADS, KV_HEADS, KV_HEADS), (SIZE, width, SIZE, width)
    keys = jax.random.split(jax.random.key(0), 4)
    q, out, k, v = (
        jax.random.normal(key, (batch, length, n, size))
        for key, n, size in zip(keys, heads, sizes, strict=True)
    )
    return (q * SIZE**-0.5 * 4, k, v), out


def outputs(attend, given, direction, positions):
    """What comes out, and the gradients of its product with a direction, on real tokens only."""
    real = (positions >= 0)[..., None, None]

    @jax.jit
    def run(q, k, v):
        out, pull = jax.vjp(attend, q, k, v)
        return jnp.where(real, out, 0), *pull(jnp.where(real, direction, 0))

    return jax.device_get(run(*given))


def compare(positions, segments, window, wrong=None, width=SIZE):
    """Largest errors of the output and of the gradients for q, k and v, of their largest entry."""
    positions = jnp.asarray(positions, jnp.int32)
    segments = None if segments is None else jnp.asarray(segments, jnp.int32)
    given, direction = arrays(positions.shape[1], len(positions), width)
    reference = partial(attention, mask=causal_mask(positions, window, segments), softcap=SOFTCAP)
    said = {"segments": segments, "window": window, "softcap": SOFTCAP, **(wrong or {})}
    ours = partial(splash_attention, positions=positions, interpret=True, **said)
    expected = outputs(reference, given, direction, positions)
    found = outputs(ours, given, direction, positions)
    pairs = zip(found, expected, strict=True)
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]


# Three blocks of 128, the last one filled up; in one row three segments and padding.
LONG = np.stack([rows(300, length=300), rows(70, 1, 200, length=300)])
SHORT = np.stack([rows(30, 1, 80, length=128), rows(9, 100, length=128)])


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 100])
def test_output_and_gradients_equal_the_reference(window):
    """With a window of 100 the last block of queries does not meet the first one of keys."""
    errors = compare(LONG[:, 0], LONG[:, 1], window)
    assert max(errors) < 1e-5, errors


@pytest.mark.parametrize("width", [SIZE, 2 * SIZE // 3])
def test_rows_that_are_not_packed_equal_the_reference(width):
    """Also where values are narrower than keys, as behind latent vectors."""
    errors = compare(rows(100, length=128)[0][None], None, 48, width=width)
    assert max(errors) < 1e-5, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", [{"window": 47}, {"softcap": 4.0}, {"segments": None}], ids=lambda w: next(iter(w))
)
def test_the_comparison_sees_what_is_wrong(wrong):
    errors = compare(SHORT[:, 0], SHORT[:, 1], 48, wrong)
    assert min(errors) > 1e-2, errors


# A prompt of 150 places and three completions of 50, two rows of them; 300 fills no block.
ROW = Group(150, 50)


def group_rows():
    """Positions of prompts of 150 and 90 tokens, completions of 50, 1, 20 and of 7, 0, 50."""
    row = np.full((2, 300), -1, np.int32)
    for i, (prompt, own) in enumerate(((150, (50, 1, 20)), (90, (7, 0, 50)))):
        row[i, 150 - prompt : 150] = np.arange(prompt)
        for j, length in enumerate(own):
            row[i, 150 + 50 * j :][:length] = prompt + np.arange(length)
    return jnp.asarray(row)


def compare_groups(window, group=ROW, softcap=SOFTCAP):
    positions = group_rows()
    given, direction = arrays(300)
    reference = group_attention(positions, 150, 3, window=window, softcap=SOFTCAP)
    ours = partial(
        splash_attention,
        positions=positions,
        segments=None,
        window=window,
        softcap=softcap,
        group=group,
        interpret=True,
    )
    expected = outputs(reference, given, direction, positions)
    found = outputs(ours, given, direction, positions)
    pairs = zip(found, expected, strict=True)
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 40, 120])
def test_groups_equal_their_reference(window):
    """A window shorter than a completion, and one shorter than the prompt."""
    errors = compare_groups(window)
    assert max(errors) < 1e-5, errors


@pytest.mark.parametrize(
    "wrong", [{"group": Group(150, 75)}, {"group": Group(149, 50)}, {"group": None}], ids=str
)
def test_the_comparison_of_groups_sees_what_is_wrong(wrong):
    errors = compare_groups(40, **wrong)
    assert min(errors) > 1e-2, errors


@pytest.mark.slow
def test_every_device_of_a_mesh_has_its_rows_and_heads():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        errors = compare(*np.concatenate([SHORT, SHORT]).swapaxes(0, 1), 48)
    assert max(errors) < 1e-5, errors


@pytest.mark.slow
def test_the_model_is_the_same_with_either(monkeypatch):
    """Every layer gets its window and the segments; scan and remat do not disturb the gradient."""
    model = Model(Gemma2Config(61, 2, 32, 48, 4, 2, 16, 24.0, 6, attn_logit_softcap=5.0))
    params = jax.tree.map(lambda leaf: 10 * leaf, model.init(jax.random.key(0)))
    positions, segments = (jnp.asarray(x, jnp.int32) for x in SHORT[:1].swapaxes(0, 1))
    tokens = jax.random.randint(jax.random.key(1), positions.shape, 1, 61)

    def everything(params):
        def total(params):
            x = model.hidden(params, tokens, positions, segments, remat="full")
            return jnp.where(positions[..., None] >= 0, jnp.sin(x), 0).sum()

        return jax.value_and_grad(total)(params)

    expected = jax.jit(everything)(params)
    monkeypatch.setattr("grm_jax.models.attention.for_tpu", lambda: True)
    interpreted = partial(splash_attention, interpret=True)
    monkeypatch.setattr("grm_jax.models.splash.splash_attention", interpreted)
    again = lambda params: everything(params)  # noqa: E731 - jit knows `everything` already
    assert "splash" in str(jax.make_jaxpr(again)(params))
    for a, b in zip(*map(jax.tree.leaves, (jax.jit(again)(params), expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5 * np.abs(b).max())


@pytest.mark.parametrize(("length", "block"), [(32, 128), (256, 256), (384, 128), (4096, 512)])
def test_blocks_divide_the_padded_length(length, block):
    assert block_size(length) == block


def test_the_mesh_says_whether_a_program_is_for_a_tpu():
    """Also where it is not here, and for meshes that differ in nothing else."""

    @jax.jit
    def text(q, k, v, positions):
        return causal_attention(positions, softcap=SOFTCAP)(q, k, v)

    shapes = [jax.ShapeDtypeStruct((4, 128, n, SIZE), jnp.float32) for n in (4, 2, 2)]
    shapes.append(jax.ShapeDtypeStruct((4, 128), jnp.int32))
    assert not for_tpu()
    for devices in (jax.devices()[:4], Topology("v5e:2x2").devices(), jax.devices()[:4]):
        axes = ("data", "fsdp", "tensor")
        mesh = jax.make_mesh((2, 1, 2), axes, axis_types=(AxisType.Auto,) * 3, devices=devices)
        with jax.set_mesh(mesh):
            assert for_tpu() == (devices[0].platform == "tpu")
            assert ("splash" in str(text.trace(*shapes).jaxpr)) == for_tpu()
    assert "splash" not in str(text.trace(*shapes).jaxpr)
