"""Sampling draws what step-by-step full forward passes would draw, and shares prompts."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.sampling import programs
from grm_jax.sampling.choice import choose
from grm_jax.sampling.generate import decode, prefill, start
from grm_jax.sampling.programs import draw, lower_decode
from grm_jax.sampling.state import Prompts
from grm_jax.sampling.strategy import Strategy

CONFIG = dataclasses.replace(PRESETS["tiny"], vocab_size=61, embed_dim=32, sliding_window=5)
STOP = jnp.asarray([7, 9])


@pytest.fixture(scope="module")
def model() -> tuple[Model, dict]:
    model = Model(CONFIG)
    params = model.init(jax.random.key(0))
    # Larger weights, so that distributions are neither flat nor certain.
    return model, jax.tree.map(lambda w: w * 6 if w.ndim > 1 else w, params)


def _prompts(lengths: list[int], group: int, slots: int = 12) -> Prompts:
    rng = np.random.default_rng(0)
    b = len(lengths)
    tokens = rng.integers(10, 61, (b, slots)).astype(np.int32)
    positions = np.arange(slots, dtype=np.int32)[None].repeat(b, 0)
    positions[positions >= np.asarray(lengths)[:, None]] = -1
    sample = np.arange(group, dtype=np.uint32)[None].repeat(b, 0)
    fields = (tokens, positions, np.arange(b, dtype=np.uint32), sample, np.ones((b, group), bool))
    return Prompts(*map(jnp.asarray, fields))


def test_equals_full_forward_token_by_token(model: tuple[Model, dict]) -> None:
    """Every drawn token and its log-probability follow from an uncached pass and the same key."""
    model_, params = model
    lengths, steps, strategy = [12, 7, 3], 11, Strategy(0.9, top_k=30, top_p=0.97)
    prompts = _prompts(lengths, group=2)
    drawn = draw(
        model_, params, prompts, jnp.uint32(5), strategy.traced(), STOP, max_new_tokens=steps
    )
    drawn = jax.device_get(drawn)
    pick = jax.jit(choose)
    forward = jax.jit(lambda t, p: model_.logits(params, model_.hidden(params, t, p)))
    stopped = 0
    for b, length in enumerate(lengths):
        for r in range(2):
            key = jax.random.key(jnp.uint32(5))
            for word in (b, r):
                key = jax.random.fold_in(key, word)
            n = int(drawn.lengths[b, r])
            text = np.concatenate([prompts.tokens[b, :length], drawn.tokens[b, r, :n]])
            padded = np.pad(text, (0, 12 + steps - len(text)))[None]
            positions = np.where(np.arange(12 + steps) < len(text), np.arange(12 + steps), -1)
            logits = forward(jnp.asarray(padded), jnp.asarray(positions[None], jnp.int32))[0]
            for step in range(n):
                uniform = jax.random.uniform(jax.random.fold_in(key, step))[None]
                at = logits[length - 1 + step][None]
                token, logprob = pick(at, uniform, strategy.traced())
                assert int(token[0]) == int(drawn.tokens[b, r, step])
                np.testing.assert_allclose(drawn.logprobs[b, r, step], logprob[0], atol=1e-4)
            ended = int(drawn.tokens[b, r, n - 1]) in (7, 9)
            assert bool(drawn.done[b, r]) == ended
            assert ended or n == steps
            stopped += ended
            assert not drawn.tokens[b, r, n:].any()
    assert 0 < stopped < 6, "the test should see both ends: stopped by token, cut by length"


def test_a_new_temperature_does_not_compile_again(
    model: tuple[Model, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    model_, params = model
    monkeypatch.setattr(programs, "decode", chex.assert_max_traces(decode, n=1))
    tokens = []
    for strategy in (Strategy(0.0), Strategy(0.7), Strategy(1.3, 10, 0.9)):
        for seed in (0, 1):
            drawn = draw(
                model_,
                params,
                _prompts([5, 6], 2),
                jnp.uint32(seed),
                strategy.traced(),
                STOP,
                max_new_tokens=6,
            )
            tokens.append(np.asarray(drawn.tokens).tobytes())
    assert tokens[0] == tokens[1], "greedy does not depend on the seed"
    assert len(set(tokens[2:])) == 4, "sampling depends on seed and settings"


@pytest.mark.parametrize("group", [1, 32])
def test_the_prompt_is_stored_once_and_the_caches_are_written_in_place(
    model: tuple[Model, dict], group: int
) -> None:
    """Beside its arguments, decoding needs less memory than one more copy of the prompt's cache
    for each sample, and gives the state back in the memory that it came in."""
    model_, params = model
    slots, steps = 1024, 4
    prompts = _prompts([slots], group, slots)
    last, cache = jax.eval_shape(functools.partial(prefill, model_), params, prompts)
    begin = functools.partial(start, model_, max_new_tokens=steps)
    state = jax.eval_shape(begin, last, prompts.active)
    words = prompts.item, prompts.sample, jnp.uint32(0), Strategy().traced(), STOP
    memory = lower_decode(model_, None, params, cache, state, *words).compile().memory_analysis()
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    assert memory.argument_size_in_bytes < 1.1 * (size(params) + size(cache) + size(state)) + 10_000
    assert memory.alias_size_in_bytes > 0.99 * size(state)
    # The global layers' keys and values; the local ring is small beside them.
    stored = CONFIG.num_pairs * 2 * CONFIG.num_kv_heads * CONFIG.head_dim * slots * 4
    assert size(cache) < 1.2 * stored
    assert memory.temp_size_in_bytes < 2 * stored
