"""The masked likelihood: what counts, what does not, and that packing changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.objectives.rft import rft_loss

# Hidden states of one number h give the logits h and 0 of two words, under a cap far away.
TWO = Model(Gemma2Config(2, 2, 1, 1, 1, 1, 2, 1.0, final_logit_softcap=1e6))
WORDS = {"embed": jnp.array([[1.0], [0.0]])}


def states(probabilities):
    """Hidden states that give word 0 these probabilities."""
    p = jnp.asarray(probabilities)
    return jnp.log(p / (1 - p))[..., None]


def test_sums_what_the_mask_keeps():
    p = jnp.exp(-jnp.array([[1.0, 2.0, 4.0], [8.0, 0.1, 0.5]]))
    mask = jnp.array([[True, False, True], [False, False, False]])
    targets = jnp.zeros((2, 3), jnp.int32)
    nll, count = rft_loss(TWO, WORDS, states(p), targets, mask, chunk=2)
    np.testing.assert_allclose(nll, 5.0, rtol=1e-5)
    assert count == 2


def test_padding_cannot_spoil_value_or_gradient():
    mask = jnp.array([[True, False]])
    targets = jnp.zeros((1, 2), jnp.int32)
    for poison in (jnp.nan, -jnp.inf):
        hidden = states([[0.25, 0.5]]).at[0, 1].set(poison)

        def value(hidden):
            return rft_loss(TWO, WORDS, hidden, targets, mask, chunk=2)[0]

        np.testing.assert_allclose(value(hidden), np.log(4), rtol=1e-5)
        np.testing.assert_allclose(jax.grad(value)(hidden)[..., 0], [[-0.75, 0.0]], rtol=1e-5)


@pytest.mark.slow
def test_packed_rows_cost_what_they_cost_apart():
    model = Model(Gemma2Config(19, 2, 8, 16, 2, 1, 4, 4.0, sliding_window=3))
    params = jax.tree.map(lambda p: 20 * p, model.init(jax.random.key(0)))
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 19, n + 1) for n in (5, 2, 4)]
    masks = [rng.random(n) < 0.6 for n in (5, 2, 4)]

    def cost(tokens, targets, mask, positions, segments):
        hidden = model.hidden(params, tokens, positions, segments)
        return rft_loss(model, params, hidden, targets, jnp.asarray(mask), chunk=4)

    def one(parts):
        return jnp.asarray(np.concatenate(parts))[None].astype(jnp.int32)

    apart = [
        cost(one([r[:-1]]), one([r[1:]]), m[None], one([np.arange(len(m))]), one([m * 0 + 1]))
        for r, m in zip(rows, masks, strict=True)
    ]
    packed = cost(
        one([r[:-1] for r in rows]),
        one([r[1:] for r in rows]),
        np.concatenate(masks)[None],
        one([np.arange(len(m)) for m in masks]),
        one([np.full(len(m), i + 1) for i, m in enumerate(masks)]),
    )
    np.testing.assert_allclose(packed[0], sum(nll for nll, _ in apart), rtol=1e-5)
    assert packed[1] == sum(count for _, count in apart)
