"""The masked likelihood: what counts, what does not, and that packing changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np

from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.objectives.logprobs import token_logprobs
from grm_jax.objectives.rft import rft_loss


def test_sums_what_the_mask_keeps():
    logprobs = jnp.array([[-1.0, -2.0, -4.0], [-8.0, -16.0, -32.0]])
    mask = jnp.array([[True, False, True], [False, False, False]])
    nll, count = rft_loss(logprobs, mask)
    assert nll.tolist() == [5.0, 0.0]
    assert count.tolist() == [2.0, 0.0]


def test_padding_cannot_spoil_value_or_gradient():
    mask = jnp.array([[True, False]])
    for poison in (jnp.nan, -jnp.inf):
        logprobs = jnp.array([[-1.0, poison]])
        grad = jax.grad(lambda x: rft_loss(x, mask)[0].sum())(logprobs)
        assert rft_loss(logprobs, mask)[0].tolist() == [1.0]
        assert grad.tolist() == [[-1.0, 0.0]]


def test_packed_rows_cost_what_they_cost_apart():
    model = Model(Gemma2Config(19, 2, 8, 16, 2, 1, 4, 4.0, sliding_window=3))
    params = jax.tree.map(lambda p: 20 * p, model.init(jax.random.key(0)))
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 19, n + 1) for n in (5, 2, 4)]
    masks = [rng.random(n) < 0.6 for n in (5, 2, 4)]

    def cost(tokens, targets, mask, positions, segments):
        hidden = model.hidden(params, tokens, positions, segments)
        found = token_logprobs(model, params, hidden, targets, chunk=4)
        return rft_loss(found.logprob, jnp.asarray(mask))

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
