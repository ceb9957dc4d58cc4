"""Sampling draws what step-by-step full forward passes would draw, and shares prompts."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.sampling import programs
from grm_jax.sampling.choice import choose
from grm_jax.sampling.generate import advance, extend
from grm_jax.sampling.request import Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.sampling.state import Queue, empty_prompts, empty_slots
from grm_jax.sampling.strategy import Strategy

CONFIG = dataclasses.replace(PRESETS["tiny"], vocab_size=61, embed_dim=32, sliding_window=5)
STOP = jnp.asarray([7, 9])


@pytest.fixture(scope="module")
def model() -> tuple[Model, dict]:
    model = Model(CONFIG)
    params = model.init(jax.random.key(0))
    # Larger weights, so that distributions are neither flat nor certain.
    return model, jax.tree.map(lambda w: w * 6 if w.ndim > 1 else w, params)


def _sampler(model: tuple[Model, dict], **settings) -> Sampler:
    return Sampler(*model, stop_ids=[7, 9], slots=4, places=2, **settings)


def _request(length: int, item: int = 0, samples: int = 2) -> Request:
    tokens = np.random.default_rng(item).integers(10, 61, length).tolist()
    return Request(tokens, item, tuple(range(samples)))


@pytest.mark.slow
def test_equals_full_forward_token_by_token(model: tuple[Model, dict]) -> None:
    """Every drawn token and its log-probability follow from an uncached pass and the same key."""
    model_, params = model
    lengths, steps, strategy = [12, 7, 3], 11, Strategy(0.9, top_k=30, top_p=0.97)
    sampler = _sampler(model, strategy=strategy, seed=5, max_new_tokens=steps)
    requests = [_request(length, item) for item, length in enumerate(lengths)]
    pick = jax.jit(choose)
    forward = jax.jit(lambda t, p: model_.logits(params, model_.hidden(params, t, p)))
    stopped = 0
    for drawn in sampler(requests):
        prompt, n = drawn.request.tokens, len(drawn.tokens)
        key = jax.random.key(jnp.uint32(5))
        for word in (drawn.request.item, drawn.sample):
            key = jax.random.fold_in(key, word)
        text = np.concatenate([prompt, drawn.tokens])
        padded = np.pad(text, (0, 12 + steps - len(text)))[None]
        positions = np.where(np.arange(12 + steps) < len(text), np.arange(12 + steps), -1)
        logits = forward(jnp.asarray(padded), jnp.asarray(positions[None], jnp.int32))[0]
        for step in range(n):
            uniform = jax.random.uniform(jax.random.fold_in(key, step))[None]
            at = logits[len(prompt) - 1 + step][:, None]
            token, logprob = pick(at, uniform, strategy.traced())
            assert int(token[0]) == int(drawn.tokens[step])
            np.testing.assert_allclose(drawn.logprobs[step], logprob[0], atol=1e-4)
        ended = int(drawn.tokens[-1]) in (7, 9)
        assert drawn.finished == ended
        assert ended or n == steps
        stopped += ended
    assert 0 < stopped < 6, "the test should see both ends: stopped by token, cut by length"


@pytest.mark.slow
def test_a_new_temperature_does_not_compile_again(
    model: tuple[Model, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = chex.assert_max_traces(advance, n=1)
    static = {"static_argnums": 0, "static_argnames": ("steps", "places")}
    jitted = jax.jit(traced, **static, donate_argnames="slots")
    monkeypatch.setattr(programs, "advance", lambda platform: jitted)
    sampler, tokens = _sampler(model, max_new_tokens=6), []
    for strategy in (Strategy(0.0), Strategy(0.7), Strategy(1.3, 10, 0.9)):
        for seed in (0, 1):
            again = dataclasses.replace(sampler, strategy=strategy, seed=seed)
            drawn = sorted(again([_request(5)]), key=lambda one: one.sample)
            tokens.append(b"".join(one.tokens.tobytes() for one in drawn))
    assert tokens[0] == tokens[1], "greedy does not depend on the seed"
    assert len(set(tokens[2:])) == 4, "sampling depends on seed and settings"


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 32])
def test_the_prompt_is_stored_once_and_the_caches_are_written_in_place(
    model: tuple[Model, dict], group: int
) -> None:
    """Beside its arguments, decoding needs less memory than one more copy of the prompt's cache
    for each sample, and every program gives its state back in the memory that it came in."""
    model_, params = model
    length, steps = 1024, 4
    prompts = jax.eval_shape(functools.partial(empty_prompts, model_, 1, 1, length))
    slots = jax.eval_shape(functools.partial(empty_slots, model_, 1, group, steps))
    of = lambda dtype: jax.ShapeDtypeStruct((1, group), dtype)  # noqa: E731
    one = jax.ShapeDtypeStruct((1,), jnp.int32)
    queue = Queue(*map(of, (jnp.int32, jnp.int32, jnp.uint32, jnp.uint32, bool, bool)), one)
    words = jnp.uint32(0), Strategy().traced(), STOP, jnp.int32(steps)
    lowered = programs.advance(platform="cpu").lower(
        model_, params, prompts, slots, queue, *words, steps=2, places=group
    )
    memory = lowered.compile().memory_analysis()
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    given = size(params) + size(prompts) + size(slots)
    assert memory.argument_size_in_bytes < 1.1 * given + 10_000
    assert memory.alias_size_in_bytes > 0.99 * size(slots)
    # The global layers' keys and values; the local ring is small beside them.
    stored = CONFIG.num_layers // 2 * 2 * CONFIG.num_kv_heads * CONFIG.head_dim * length * 4
    assert size(prompts) < 1.2 * stored
    assert memory.temp_size_in_bytes < 2 * stored
    prompts = jax.eval_shape(functools.partial(empty_prompts, model_, 1, 8, length))
    _, store = _of_a_piece(model, prompts)
    assert store.alias_size_in_bytes > 0.99 * size(prompts)


def test_a_piece_is_read_and_written_without_the_rest_of_its_row(
    model: tuple[Model, dict],
) -> None:
    """Copies of whole rows took half of the time of a long prompt."""
    prompts = jax.eval_shape(functools.partial(empty_prompts, model[0], 1, 2, 16384))
    widest = max(x.size * x.dtype.itemsize for x in jax.tree.leaves(prompts.cache.layers))
    for memory in _of_a_piece(model, prompts):
        assert memory.temp_size_in_bytes < widest // 2, "of two rows"


def _of_a_piece(model: tuple[Model, dict], prompts: Any) -> tuple[Any, Any]:
    """What memory the programs take that run and store a piece of a prompt."""
    piece, one = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1, 64), (1,)))
    run = programs.extend(platform="cpu").lower(*model, prompts, piece, one, one, one)
    made = jax.eval_shape(functools.partial(extend, model[0]), model[1], prompts, piece, *[one] * 3)
    store = programs.STORE.lower(model[0], prompts, *made, one, one, one)
    return run.compile().memory_analysis(), store.compile().memory_analysis()
