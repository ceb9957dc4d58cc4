"""Latent attention in the engine: what is cached, and that samples share it."""

import jax
import pytest

from grm_jax.models import cache as kv
from grm_jax.models.model import Model
from grm_jax.sampling.engine import Engine, EngineSize
from grm_jax.sampling.request import Request
from tests.test_sharding import LATENT, tokens_of

MODEL = Model(LATENT.config)


@pytest.fixture(scope="module")
def params():
    params = MODEL.init(jax.random.key(0))
    return jax.tree.map(lambda w: w * 8 if w.ndim > 1 else w, params)


def test_a_position_is_cached_as_one_latent_vector():
    """Not as 8 heads of 10 + 6 numbers; keys and values are the same array."""
    a = MODEL.spec.layers[0].attention
    chunk = kv.empty_prompts(MODEL.spec, 1, 2, 16, "float32").layers[0][0]
    assert [leaf.shape for leaf in jax.tree.leaves(chunk)] == [(1, 2, 1, 16, 12 + 4)]
    assert chunk.weighed is chunk.keys
    assert a.num_heads * (a.head_dim + a.value_dim) == 128


def test_samples_that_share_a_prompt_are_those_drawn_alone(params):
    """Bit for bit, in slots that are refilled, and with a prompt of several pieces."""
    size = EngineSize(slots=4, prompts=4, places=2, piece=8, steps=3)
    engine = Engine(MODEL, params, stop_ids=[7], max_new_tokens=12, size=size)

    def drawn(*requests):
        for request in requests:
            engine.submit(request)
        found = {}
        while not engine.idle:
            for one in engine.step():
                name = one.request.item, one.sample
                found[name] = one.tokens.tobytes(), one.logprobs.tobytes()
        return found

    long, short = tokens_of(19).tolist(), tokens_of(5).tolist()
    together = drawn(Request(long, 0, (0, 1, 2, 3), 0), Request(short, 1, (0, 1), 1))
    assert len({tokens for tokens, _ in together.values()}) > 3
    alone = {}
    for sample in range(4):
        alone |= drawn(Request(long, 0, (sample,), 0))
    for sample in range(2):
        alone |= drawn(Request(short, 1, (sample,), 1))
    assert alone == together
