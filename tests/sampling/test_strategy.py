"""A token is drawn from exactly the distribution that temperature, top-k and top-p describe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_jax.sampling.choice import choose, inverse_cdf
from grm_jax.sampling.strategy import Strategy


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return shifted / shifted.sum()


def _filtered(probs: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """The textbook way, by sorting: keep the k best, then the smallest set that holds top_p."""
    order = np.argsort(-probs, kind="stable")
    kept = probs.copy()
    if top_k:
        kept[order[top_k:]] = 0
    if top_p < 1:
        mass_before = np.cumsum(kept[order]) - kept[order]
        kept[order[mass_before >= top_p * kept.sum()]] = 0
    return kept / kept.sum()


def _frequencies(logits: np.ndarray, strategy: Strategy, draws: int = 4000) -> np.ndarray:
    """How often each token comes out over evenly spaced uniforms: right within 1/draws."""
    uniform = (jnp.arange(draws) + 0.5) / draws
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (draws, logits.size))
    token, _ = jax.jit(choose)(rows.T, uniform, strategy.traced())
    return np.bincount(np.asarray(token), minlength=logits.size) / draws


@pytest.mark.parametrize("vocab", [7, 256, 700])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_temperature(vocab: int, temperature: float) -> None:
    logits = np.random.default_rng(vocab).normal(size=vocab) * 2
    frequencies = _frequencies(logits, Strategy(temperature))
    np.testing.assert_allclose(frequencies, _softmax(logits / temperature), atol=2 / 4000)


@pytest.mark.parametrize("top_k", [0, 1, 5, 40])
@pytest.mark.parametrize("top_p", [0.1, 0.6, 0.95, 1.0])
def test_filters_equal_sorting(top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(3).normal(size=300) * 2
    frequencies = _frequencies(logits, Strategy(1.0, top_k, top_p))
    expected = _filtered(_softmax(logits), top_k, top_p)
    np.testing.assert_allclose(frequencies, expected, atol=2 / 4000)
    assert not frequencies[expected == 0].any()


def test_greedy_takes_the_highest_logit_and_reports_its_log_probability() -> None:
    logits = jax.random.normal(jax.random.key(0), (50, 300)) * 3
    token, logprob = choose(logits.T, jnp.full((50,), 0.999), Strategy(0.0).traced())
    np.testing.assert_array_equal(token, jnp.argmax(logits, -1))
    rows = zip(np.asarray(logits), np.asarray(token), strict=True)
    expected = [np.log(_softmax(row)[t]) for row, t in rows]
    np.testing.assert_allclose(logprob, expected, rtol=1e-5)


def test_log_probability_ignores_temperature_and_filters() -> None:
    logits = jax.random.normal(jax.random.key(1), (200, 300)) * 3
    uniform = jax.random.uniform(jax.random.key(2), (200,))
    token, logprob = choose(logits.T, uniform, Strategy(0.3, 20, 0.9).traced())
    rows = zip(np.asarray(logits), np.asarray(token), strict=True)
    expected = [np.log(_softmax(row)[t]) for row, t in rows]
    np.testing.assert_allclose(logprob, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-30, 1e-8, 0.1, 1.0, 3e3]), min_size=1, max_size=600),
    uniform=st.sampled_from([0.0, 1e-7, 0.25, 0.5, 0.75, float(np.float32(1 - 2**-24))]),
)
def test_never_draws_what_has_no_mass(weights: list[float], uniform: float) -> None:
    if not any(weights):
        weights = [*weights, 1.0]
    padded = np.zeros((1, 601), np.float32)  # one shape, so that hypothesis does not compile anew
    padded[0, : len(weights)] = weights
    index = int(inverse_cdf(jnp.asarray(padded).T, jnp.asarray([uniform], jnp.float32))[0])
    assert padded[0, index] > 0


@pytest.mark.parametrize(
    "bad", [{"temperature": -1.0}, {"top_k": -2}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_bad_settings_name_the_value(bad: dict) -> None:
    (value,) = bad.values()
    with pytest.raises(ValueError, match=str(value)):
        Strategy(**bad)
