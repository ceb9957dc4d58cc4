"""token_logprobs against a float64 derivation by hand, and against itself in chunks."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.objectives.logprobs import token_logprobs

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


def objective(table, hidden, targets, weights, chunk, temperature=1.0):
    found = token_logprobs(
        MODEL, {"embed": table}, hidden, targets, chunk=chunk, temperature=temperature
    )
    return jnp.sum(weights * found.logprob)


@pytest.mark.parametrize("chunk", [1, 3, 5, T, 64])
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
    for chunk in (3, T):
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

    assert largest(T) >= B * T * V
    assert largest(2) < B * T * V


def test_bf16_hidden_states_give_f32(problem):
    table, hidden, targets, _ = problem
    found = token_logprobs(MODEL, {"embed": table}, hidden.astype(jnp.bfloat16), targets, chunk=4)
    assert found.logprob.dtype == jnp.float32


def test_a_chunk_of_nothing_is_refused(problem):
    table, hidden, targets, _ = problem
    with pytest.raises(ValueError, match="chunk is 0"):
        token_logprobs(MODEL, {"embed": table}, hidden, targets, chunk=0)
