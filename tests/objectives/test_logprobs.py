"""token_loss against a float64 derivation by hand, and against itself in chunks."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Gemma2Config, LlamaConfig
from grm_jax.models.model import Model
from grm_jax.models.spec import Rope
from grm_jax.objectives.logprobs import token_logprobs, token_loss
from grm_jax.sharding import make_mesh

V, D, B, T, CAP = 23, 6, 3, 10, 2.5
MODEL = Model(Gemma2Config(V, 2, D, 8, 2, 1, 4, 4.0, final_logit_softcap=CAP))


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(V, D)).astype(np.float32)
    hidden = (2 * rng.normal(size=(B, T, D))).astype(np.float32)
    targets = rng.integers(0, V, (B, T)).astype(np.int32)
    weights = rng.normal(size=(B, T)).astype(np.float32)
    return tuple(map(jnp.asarray, (table, hidden, targets, weights)))


def derive(table, hidden, targets, weights, temperature=1.0):
    """Values and gradients of sum(weights * logprob) in float64: no autodiff, no jax."""
    table, hidden, weights = (np.asarray(x, np.float64) for x in (table, hidden, weights))
    tanh = np.tanh(hidden @ table.T / CAP)
    logits = CAP * tanh / temperature
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    hit = np.eye(V)[targets]
    logprob = np.log((p * hit).sum(-1))
    entropy = -(p * np.log(p)).sum(-1)
    # d logprob / d logits = hit - p; the cap's derivative is 1 - tanh^2.
    d_raw = weights[..., None] * (hit - p) * (1 - tanh**2) / temperature
    return logprob, entropy, np.einsum("btv,btd->vd", d_raw, hidden), d_raw @ table


def objective(table, hidden, targets, weights, chunk, temperature=1.0, mask=None):
    """The sum of weighted log-probabilities, doubled outside."""
    return (
        2
        * token_loss(
            MODEL,
            {"embed": table},
            hidden,
            targets,
            jnp.ones(targets.shape, bool) if mask is None else mask,
            lambda scored, weights: (weights / 2 * scored.logprob, ()),
            weights,
            chunk=chunk,
            temperature=temperature,
        )[0]
    )


# Tokens: of 3 rows one column each, 3, and 8 of 10; then all at once.
@pytest.mark.parametrize("chunk", [1, 3, 9, 26, B * T, 640])
def test_values_and_gradients_are_those_derived_by_hand(problem, chunk):
    table, hidden, targets, weights = problem
    logprob, entropy, d_table, d_hidden = derive(*problem)
    found = token_logprobs(MODEL, {"embed": table}, hidden, targets, chunk=chunk, entropy=True)
    np.testing.assert_allclose(found.logprob, logprob, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found.entropy, entropy, rtol=2e-5, atol=2e-5)
    grads = jax.grad(objective, argnums=(0, 1))(table, hidden, targets, weights, chunk)
    np.testing.assert_allclose(grads[0], d_table, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grads[1], d_hidden, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_at_a_temperature_the_capped_logits_are_divided(problem, temperature):
    """As TRL and Tunix do: the policy is what draws, the model at that temperature."""
    table, hidden, targets, weights = problem
    logprob, entropy, d_table, d_hidden = derive(*problem, temperature)
    for chunk in (9, B * T):
        found = token_logprobs(
            MODEL,
            {"embed": table},
            hidden,
            targets,
            chunk=chunk,
            entropy=True,
            temperature=temperature,
        )
        np.testing.assert_allclose(found.logprob, logprob, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(found.entropy, entropy, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(found.unscaled, derive(*problem)[0], rtol=2e-5, atol=2e-5)
        grads = jax.grad(objective, argnums=(0, 1))(
            table, hidden, targets, weights, chunk, temperature
        )
        np.testing.assert_allclose(grads[0], d_table, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(grads[1], d_hidden, rtol=1e-4, atol=1e-4)


def test_no_entropy_unless_asked(problem):
    table, hidden, targets, _ = problem
    assert token_logprobs(MODEL, {"embed": table}, hidden, targets, chunk=4).entropy is None


def test_no_array_holds_all_the_logits(problem):
    """What the chunks are for: neither forward nor backward holds [B, T, V]."""
    table, hidden, targets, weights = problem

    def largest(chunk):
        program = jax.make_jaxpr(jax.grad(objective, argnums=(0, 1)), static_argnums=4)(
            table, hidden, targets, weights, chunk
        )
        return max(size(program.jaxpr))

    def size(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.size for v in equation.outvars)
            for inner in jex.jaxprs_in_params(equation.params):
                yield from size(inner)

    assert largest(B * T) >= B * T * V
    assert largest(6) < B * T * V


MASK = np.array([[1, 0] * 5, [0] * 7 + [1] * 3, [0] * 10], bool)


@pytest.mark.parametrize("chunk", [3, 9, 64])
def test_only_what_the_mask_shows_counts_whatever_stands_elsewhere(problem, chunk):
    table, hidden, targets, weights = problem
    weights = jnp.where(MASK, weights, 0)
    logprob, entropy, d_table, d_hidden = derive(table, hidden, targets, weights)
    rubbish = jnp.where(MASK[..., None], hidden, jnp.nan)
    poison = jnp.where(MASK, weights, jnp.inf)
    found = token_logprobs(
        MODEL, {"embed": table}, rubbish, targets, jnp.asarray(MASK), chunk=chunk, entropy=True
    )
    np.testing.assert_allclose(found.logprob, np.where(MASK, logprob, 0), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found.entropy, np.where(MASK, entropy, 0), rtol=2e-5, atol=2e-5)
    given = (table, rubbish, targets, poison, chunk, 1.0, jnp.asarray(MASK))
    value, grads = jax.value_and_grad(objective, argnums=(0, 1))(*given)
    np.testing.assert_allclose(value, (np.asarray(weights) * logprob).sum(), rtol=1e-5)
    np.testing.assert_allclose(grads[0], d_table, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grads[1], d_hidden, rtol=1e-4, atol=1e-4)


def test_chunks_without_a_token_that_counts_are_not_looked_at(problem):
    table, hidden, targets, weights = problem
    looked = []

    def count(scored, weights):
        jax.debug.callback(lambda _: looked.append(1), scored.logprob.sum())
        return weights * scored.logprob, ()

    for mask, turns in ((MASK, 5), (MASK[1:2].repeat(3, 0), 3), (np.zeros_like(MASK), 0)):
        looked.clear()
        params, shown = {"embed": table}, jnp.asarray(mask)
        found = token_loss(MODEL, params, hidden, targets, shown, count, weights, chunk=3)
        jax.block_until_ready(found)
        jax.effects_barrier()
        assert len(looked) == turns


def test_a_mesh_takes_a_chunk_for_each_device_and_changes_nothing(problem):
    table, hidden, targets, weights = (jnp.tile(x, (2,) + (1,) * (x.ndim - 1)) for x in problem)
    given = (table[:V], hidden[:4], targets[:4], weights[:4])
    run = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)), static_argnums=4)
    wanted = run(*given, 2)
    with jax.set_mesh(make_mesh(MeshConfig(2, 2, 1), jax.devices()[:4])):
        again = jax.jit(jax.value_and_grad(objective, argnums=(0, 1)), static_argnums=4)
        found = again(*given, 2)
        program = str(jax.make_jaxpr(objective, static_argnums=4)(*given, 2))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert f"f32[4,2,{V}]" in program


def test_bf16_hidden_states_give_f32(problem):
    table, hidden, targets, _ = problem
    found = token_logprobs(MODEL, {"embed": table}, hidden.astype(jnp.bfloat16), targets, chunk=4)
    assert found.logprob.dtype == jnp.float32


def test_a_chunk_of_nothing_is_refused(problem):
    table, hidden, targets, _ = problem
    with pytest.raises(ValueError, match="chunk is 0"):
        token_logprobs(MODEL, {"embed": table}, hidden, targets, chunk=0)


def test_a_head_of_its_own_gives_the_logits_and_has_their_gradient(problem):
    table, hidden, targets, weights = problem
    model = Model(LlamaConfig(V, 1, D, 8, 2, 1, 4, Rope(100.0)))
    params = {"embed": jnp.zeros_like(table), "head": table}

    def loss(params):
        everything = jnp.ones(targets.shape, bool)
        weighted = lambda scored, weights: (weights * scored.logprob, ())  # noqa: E731
        return token_loss(
            model, params, hidden, targets, everything, weighted, weights, chunk=8
        )[0]  # fmt: skip

    def plain(head):
        logprobs = jax.nn.log_softmax(hidden @ head.T)
        return (weights * jnp.take_along_axis(logprobs, targets[..., None], -1)[..., 0]).sum()

    value, gradient = jax.value_and_grad(loss)(params)
    wanted, slope = jax.value_and_grad(plain)(table)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient["head"], slope, atol=1e-5)
    assert not gradient["embed"].any()
