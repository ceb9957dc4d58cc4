"""Every family in the engine: the samples of a prompt share it, and are those drawn alone."""

import jax
import pytest

from grm_jax.models.model import Model
from grm_jax.sampling.engine import Engine
from grm_jax.sampling.request import Request
from grm_jax.sampling.size import EngineSize
from tests.test_sharding import LATENT, OTHERS, tokens_of

# CI runs those with latent vectors and experts; `test_engine.py` is Gemma-2's.
NAMES = [*(pytest.param(name, marks=pytest.mark.big) for name in OTHERS), "deepseek_v3"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_samples_that_share_a_prompt_are_those_drawn_alone(name):
    """Bit for bit, in slots that are refilled, and with a prompt of several pieces."""
    model = Model(OTHERS.get(name, LATENT.config))
    params = model.init(jax.random.key(0))
    params = jax.tree.map(lambda w: w * 8 if w.ndim > 1 else w, params)
    size = EngineSize(slots=4, prompts=4, places=2, piece=8, steps=3)
    engine = Engine(model, params, stop_ids=[7], max_new_tokens=12, size=size)

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
