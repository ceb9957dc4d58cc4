"""One sampling program: prefill each prompt once, then draw until every sample has stopped.

A sample's randomness comes from (seed, item, sample, step) by `fold_in`; nothing depends on what
else is in the batch. Letters: B prompts, R samples of a prompt, S prompt slots, T new tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models import cache as kv
from grm_jax.models.cache import SampleCache
from grm_jax.models.gemma2 import Params
from grm_jax.models.model import Model
from grm_jax.sampling.state import Drawn, LoopState, Prompts
from grm_jax.sampling.strategy import choose


def generate(
    model: Model,
    params: Params,
    prompts: Prompts,
    seed: Array,
    settings: tuple[Array, Array, Array],
    stop_ids: Int[Array, " n"],
    *,
    max_new_tokens: int,
) -> Drawn:
    """Draws R samples of each of B prompts; jit with `model` and `max_new_tokens` static.

    `settings` are `Strategy.traced()`, `seed` a uint32; both are traced. The prompt's cache is
    stored once for its R samples. Returns padded arrays, see `Drawn`.
    """
    batch, group = prompts.sample.shape
    keys = _stream_keys(seed, prompts)
    last, prompt_cache = model.prefill(params, prompts.tokens, prompts.positions)

    def advance(state: LoopState) -> LoopState:
        """Draws one token of every sample and feeds it: one `choose` in the program, not two."""
        logits = model.logits(params, state.hidden).reshape(batch * group, -1)
        uniform = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, state.step)))(keys)
        token, logprob = choose(logits, uniform, settings)
        token, logprob = token.reshape(batch, group), logprob.reshape(batch, group)
        hidden, cache = model.decode(params, token, state.step, prompt_cache, state.cache)
        return _record(state, token, logprob, stop_ids, hidden, cache)

    # The first token of every sample of a prompt comes from the same hidden state.
    hidden = jnp.broadcast_to(last[:, None], (batch, group, last.shape[-1]))
    state = jax.lax.while_loop(
        lambda s: (s.step < max_new_tokens) & ~jnp.all(s.done),
        advance,
        _start(model, prompts, hidden, max_new_tokens),
    )
    return Drawn(state.tokens, state.logprobs, state.lengths, state.done)


def _stream_keys(seed: Array, prompts: Prompts) -> Array:
    """One key per sample slot, [B * R], from (seed, item, sample)."""
    root = jax.random.key(seed)
    items = jax.vmap(jax.random.fold_in, (None, 0))(root, prompts.item)
    return jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(items, prompts.sample).reshape(-1)


def _start(model: Model, prompts: Prompts, hidden: Array, steps: int) -> LoopState:
    batch, group = prompts.sample.shape
    return LoopState(
        step=jnp.int32(0),
        hidden=hidden,
        done=~prompts.active,
        tokens=jnp.zeros((batch, group, steps), jnp.int32),
        logprobs=jnp.zeros((batch, group, steps), jnp.float32),
        lengths=jnp.zeros((batch, group), jnp.int32),
        cache=kv.empty_samples(model.config, batch, group, steps, model.dtype),
    )


def _record(
    state: LoopState,
    token: Int[Array, "B R"],
    logprob: Float[Array, "B R"],
    stop_ids: Int[Array, " n"],
    hidden: Float[Array, "B R D"],
    cache: SampleCache,
) -> LoopState:
    """The state after one more token, which only samples that had not stopped write down."""
    live = ~state.done
    start = (0, 0, state.step)

    def put(array: Array, value: Array) -> Array:
        kept = jnp.where(live, value, jnp.zeros_like(value))[..., None]
        return jax.lax.dynamic_update_slice(array, kept, start)

    return LoopState(
        step=state.step + 1,
        hidden=hidden,
        done=state.done | jnp.any(token[..., None] == stop_ids, axis=-1),
        tokens=put(state.tokens, token),
        logprobs=put(state.logprobs, logprob),
        lengths=state.lengths + live,
        cache=cache,
    )
