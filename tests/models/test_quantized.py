"""Weights in int8: how far they are from the others, and that every program reads them alike."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.adapted import merged
from grm_jax.models.adapter import Adapter
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.models.quantized import dequantized, is_quantized, quantized
from grm_jax.sampling.request import Request
from grm_jax.sampling.sampler import Sampler
from tests.test_sharding import LATENT

GEMMA = Model(Gemma2Config(64, 4, 32, 48, 4, 2, 8, 8.0, sliding_window=16, max_position=128))
# A layer of each, what it keeps beside the vectors, and how many numbers at least share a scale.
LAYERS = {GEMMA: ("pairs", "local", (), 10), LATENT: ("expert_layers", "mixed", ("router",), 5)}


@pytest.fixture(scope="module", params=LAYERS, ids=["gemma-2", "latents and experts"])
def model(request):
    return request.param


@pytest.fixture(scope="module")
def params(model):
    """(full, in int8, and these in float32 again)."""
    pytest.importorskip("qwix")
    make = jax.jit(model.init)
    small = quantized(make(jax.random.key(0)))
    again = {
        name: {k: dequantized(layer) for k, layer in part.items()}
        if isinstance(part, dict)
        else part
        for name, part in small.items()
    }
    return make(jax.random.key(0)), small, again


def test_matrices_are_bytes_within_half_a_step_of_what_they_were(model, params):
    full, small, again = params
    segment, layer, kept, together = LAYERS[model]
    for name, weights in full[segment][layer].items():
        made, back = small[segment][layer][name], again[segment][layer][name]
        assert is_quantized(made) == (weights.ndim > 2 and name not in kept)
        if is_quantized(made):
            assert made.qvalue.dtype == jnp.int8
            assert made.scale.size < weights.size / together
            step = np.asarray(made.scale) / 2
            assert (np.abs(np.asarray(back - weights)) <= step * (1 + 1e-4)).all()
            assert np.abs(np.asarray(made.qvalue, int)).max() >= 127
        else:
            np.testing.assert_array_equal(made, weights)
    for name in ("embed", "final_norm"):
        np.testing.assert_array_equal(small[name], full[name])


def test_what_was_given_is_freed(model, params):
    given = jax.tree.map(jnp.copy, params[0])
    quantized(given)
    segment, layer, *_ = LAYERS[model]
    assert given[segment][layer]["o"].is_deleted()
    assert not given["embed"].is_deleted()


@pytest.mark.slow
def test_reading_and_drawing_are_those_of_the_weights_that_they_stand_for(model, params):
    full, small, again = params
    tokens = jax.random.randint(jax.random.key(1), (2, 24), 0, 64)
    positions = jnp.broadcast_to(jnp.arange(24), tokens.shape)
    hidden = jax.jit(model.hidden)
    wanted, found = (np.asarray(hidden(p, tokens, positions)) for p in (again, small))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(wanted - np.asarray(hidden(full, tokens, positions))).max() > 1e-4

    def drawn(weights) -> dict[int, np.ndarray]:
        sampler = Sampler(model, weights, stop_ids=[1], max_new_tokens=12, slots=4, seed=3)
        request = Request(tokens[0].tolist(), 7, tuple(range(6)))
        return {done.sample: done.tokens for done in sampler([request])}

    wanted, found = drawn(again), drawn(small)
    assert wanted.keys() == found.keys() == set(range(6))
    for sample, ids in wanted.items():
        np.testing.assert_array_equal(found[sample], ids)


@pytest.mark.parametrize("below", [False, True], ids=["all layers", "upper layers"])
def test_a_change_beside_bytes_has_the_gradient_of_one_beside_what_they_stand_for(
    model, params, below
):
    """And the sums are the same."""
    layers = len(model.spec.layers) - len(model.spec.segments[0].period) if below else None
    adapter = Adapter(model, rank=2, alpha=4.0, layers=layers)
    shapes, structure = jax.tree.flatten(adapter.abstract())
    keys = jax.random.split(jax.random.key(2), len(shapes))
    trained = jax.tree.unflatten(
        structure, [jax.random.normal(k, x.shape) / 8 for k, x in zip(keys, shapes, strict=True)]
    )
    tokens = jax.random.randint(jax.random.key(1), (2, 24), 0, 64)
    at = jnp.broadcast_to(jnp.arange(24), tokens.shape)

    @jax.jit
    def gradient(trained, frozen):
        loss = lambda t: jnp.sin(model.hidden(adapter.join(frozen, t), tokens, at)).sum()  # noqa: E731
        return jax.grad(loss)(trained), merged(adapter.join(frozen, trained), "float32")

    found, wanted = gradient(trained, params[1]), gradient(trained, params[2])
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_the_backward_pass_keeps_no_matrix_that_stands_in_bytes():
    """Whether it is changed, as q is, or not."""
    pytest.importorskip("qwix")
    small = quantized(jax.jit(GEMMA.init)(jax.random.key(0)))
    adapter = Adapter(GEMMA, rank=2, alpha=4.0, targets=("q_proj",))
    at = jnp.arange(4)[None]

    def loss(trained):
        return GEMMA.hidden(adapter.join(small, trained), at, at).sum()

    equations = jax.make_jaxpr(jax.grad(loss))(adapter.abstract()).eqns
    forward, _ = (e for e in equations if e.primitive.name == "scan")
    kept = [v.aval.size for v in forward.outvars if v.aval.dtype != jnp.int8]
    assert max(kept) < small["pairs"]["local"]["k"].qvalue.size


def test_without_qwix_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(ValueError, match=r"pip install 'grm-jax\[int8\]'"):
        quantized({"pairs": {}})
