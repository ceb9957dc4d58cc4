"""The sampling programs: `prefill` runs each prompt once, `decode` draws until all have stopped.

The caches are arguments of the second, which writes them in place, so that beside weights and
caches it needs next to no memory. A sample's randomness comes from (seed, item, sample, step) by
`fold_in`; nothing depends on what else is in the batch.
Letters: B prompts, R samples of a prompt, S prompt slots, T new tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from grm_jax.models import cache as kv
from grm_jax.models.cache import PromptCache, SampleCache
from grm_jax.models.gemma2 import Params
from grm_jax.models.model import Model
from grm_jax.randomness import token_keys
from grm_jax.sampling.choice import choose
from grm_jax.sampling.state import LOOP_AXES, LoopState, Prompts
from grm_jax.sharding import constrain


def prefill(
    model: Model, params: Params, prompts: Prompts
) -> tuple[Float[Array, "B D"], PromptCache]:
    """Runs B prompts: the state that each one's first token is drawn from, and their cache, which
    all R samples share; jit with `model` static."""
    last, cache = model.prefill(params, prompts.tokens, prompts.positions)
    return last, jax.tree.map(constrain, cache, kv.PROMPT_AXES)


def start(
    model: Model, last: Float[Array, "B D"], active: Bool[Array, "B R"], *, max_new_tokens: int
) -> LoopState:
    """The state before the first token, with T = max_new_tokens slots for each sample; jit with
    `model` and `max_new_tokens` static."""
    batch, group = active.shape
    state = LoopState(
        step=jnp.int32(0),
        hidden=jnp.broadcast_to(last[:, None], (batch, group, last.shape[-1])),
        done=~active,
        tokens=jnp.zeros((batch, group, max_new_tokens), jnp.int32),
        logprobs=jnp.zeros((batch, group, max_new_tokens), jnp.float32),
        lengths=jnp.zeros((batch, group), jnp.int32),
        cache=kv.empty_samples(model.config, batch, group, max_new_tokens, model.dtype),
    )
    return jax.tree.map(constrain, state, LOOP_AXES)


def decode(
    model: Model,
    params: Params,
    cache: PromptCache,
    state: LoopState,
    item: UInt[Array, " B"],
    sample: UInt[Array, "B R"],
    seed: Array,
    settings: tuple[Array, Array, Array],
    stop_ids: Int[Array, " n"],
) -> LoopState:
    """Draws until every sample has stopped or its slots are full; jit with `model` static and
    `state` donated.

    `item` and `sample` name the random streams as in `Prompts`, `settings` are
    `Strategy.traced()`, `seed` is a uint32; all are traced.
    """
    batch, group, slots = state.tokens.shape
    keys = token_keys(seed, item, sample)

    def advance(state: LoopState) -> LoopState:
        """Draws one token of every sample and feeds it: one `choose` in the program, not two."""
        logits = model.logits(params, state.hidden).reshape(batch * group, -1)
        uniform = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, state.step)))(keys)
        token, logprob = choose(logits, uniform, settings)
        token, logprob = token.reshape(batch, group), logprob.reshape(batch, group)
        hidden, own = model.decode(params, token, state.step, cache, state.cache)
        return _record(state, token, logprob, stop_ids, hidden, own)

    state = jax.lax.while_loop(
        lambda s: (s.step < slots) & ~jnp.all(s.done),
        advance,
        state,
    )
    return jax.tree.map(constrain, state, LOOP_AXES)


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
