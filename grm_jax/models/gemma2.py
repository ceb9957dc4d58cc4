"""Gemma-2's trunk: a scan over pairs of one local and one global layer.

The scanned body is one pair, so masks are static, nothing branches, and the program is as small
for 46 layers as for two. `hidden` is the form of training and scoring, `group_hidden` the same for
several completions of one prompt; decoding.py has those over caches.

Letters: B batch, T query time, S key time, N heads, K key-value heads, G = N/K, H head size,
D model, F feed-forward, V vocabulary, P pairs, R samples of one prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from grm_jax.models.attention import causal_attention
from grm_jax.models.config import Gemma2Config, Remat
from grm_jax.models.group_attention import group_attention
from grm_jax.models.layers import INIT_SCALE, Block, rms_norm
from grm_jax.models.quantized import dequantized
from grm_jax.models.remat import rematerialized
from grm_jax.sharding import constrain, divides, for_tpu

Params = dict[str, Any]
ACTIVATION = ("batch", None, None)


def init(config: Gemma2Config, dtype: str, key: Array) -> Params:
    """Random weights as a nested dict (see `axes` for its shape); layers stacked over pairs."""
    embed_key, local_key, global_key = jax.random.split(key, 3)
    table = jax.random.normal(embed_key, (config.vocab_size, config.embed_dim), jnp.float32)

    def blocks(key: Array) -> Params:
        one = lambda k: nnx.to_pure_dict(nnx.state(Block(config, dtype, nnx.Rngs(k))))  # noqa: E731
        return jax.vmap(one)(jax.random.split(key, config.num_pairs))

    return {
        "embed": (INIT_SCALE * table).astype(dtype),
        "final_norm": jnp.zeros((config.embed_dim,), dtype),
        "pairs": {"local": blocks(local_key), "global": blocks(global_key)},
    }


def axes(config: Gemma2Config) -> Params:
    """The names of every weight's dimensions, in the structure of `init`."""
    _, state = _split_block(config)
    names = jax.tree.map(
        lambda p: ("pairs", *p.get_metadata("axes")),
        state,
        is_leaf=lambda p: isinstance(p, nnx.Variable),
    )
    block = nnx.to_pure_dict(names)
    return {
        "embed": ("vocab", "embed"),
        "final_norm": ("norm",),
        "pairs": {"local": block, "global": block},
    }


def _split_block(config: Gemma2Config) -> tuple[Any, Any]:
    return nnx.split(nnx.eval_shape(lambda: Block(config, "float32", nnx.Rngs(0))))


def embed(
    config: Gemma2Config, params: Params, tokens: Int[Array, "B T"], dtype
) -> Float[Array, "B T D"]:
    """Token embeddings times sqrt(D); the factor is rounded to `dtype` as Gemma's own code does."""
    with jax.named_scope("embed"):
        # Each device looks up its part of D for the rows of all, and parts are then exchanged for
        # rows: less to send than the table, and its gradient stays where the table lies.
        # Said of the table too, because its gradient would follow that of `logits` otherwise.
        table = constrain(params["embed"], ("vocab", "embed"))
        x = table[constrain(tokens, ("rows", None))].astype(dtype)
        x = constrain(x, ("rows", None, "embed"))
        return constrain(x * jnp.asarray(config.embed_dim**0.5, dtype), ACTIVATION)


def hidden(
    config: Gemma2Config,
    params: Params,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    *,
    dtype,
    remat: Remat = "none",
) -> Float[Array, "B T D"]:
    """Hidden states after the final norm. `positions` is -1 on padding; `segments` separates
    rows that were packed into one. `remat`: see `rematerialized`."""
    x = embed(config, params, tokens, dtype)
    x = _trunk(config, params, x, positions, _attends(config, positions, segments), remat)
    return rms_norm(x, params["final_norm"], config.rms_norm_eps)


def group_hidden(
    config: Gemma2Config,
    params: Params,
    prompts: Int[Array, "P S"],
    prompt_positions: Int[Array, "P S"],
    tokens: Int[Array, "P G T"],
    positions: Int[Array, "P G T"],
    *,
    dtype,
    remat: Remat = "none",
) -> Float[Array, "P G T D"]:
    """The hidden states that predict `tokens`: G completions of each prompt, which is run once.

    Those of the prompt's last token predict the first tokens. Positions are -1 on padding; prompts
    are padded on the left, completions on the right.
    """
    p, g, t = tokens.shape
    s = prompts.shape[1]
    row = jnp.concatenate([prompt_positions, positions.reshape(p, g * t)], axis=1)
    attend = partial(group_attention, row, s, g, softcap=config.attn_logit_softcap)
    attends = {"local": attend(window=config.sliding_window), "global": attend()}
    x = jnp.concatenate([prompts, tokens.reshape(p, g * t)], axis=1)
    x = _trunk(config, params, embed(config, params, x, dtype), row, attends, remat)
    first = jnp.broadcast_to(x[:, None, s - 1 : s], (p, g, 1, x.shape[-1]))
    x = jnp.concatenate([first, x[:, s:].reshape(p, g, t, -1)[:, :, :-1]], axis=2)
    return rms_norm(x, params["final_norm"], config.rms_norm_eps)


def _trunk(
    config: Gemma2Config,
    params: Params,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    attends: dict[str, Callable[[Array, Array, Array], Array]],
    remat: Remat,
) -> Float[Array, "B T D"]:
    """All layers but the final norm."""
    graph, _ = _split_block(config)
    if remat == "attention" and not for_tpu():  # splash keeps no weights anyway
        attends = {
            name: jax.checkpoint(attend, prevent_cse=False) for name, attend in attends.items()
        }

    def body(x: Array, pair: Params) -> tuple[Array, None]:
        for name, attend in attends.items():
            x = constrain(x, ACTIVATION)
            with jax.named_scope(name):
                x = nnx.merge(graph, dequantized(pair[name]))(x, positions, attend)
        return x, None

    x, _ = jax.lax.scan(rematerialized(body, remat), x, params["pairs"])
    return x


def _attends(
    config: Gemma2Config, positions: Array, segments: Array | None = None
) -> dict[str, Callable[[Array, Array, Array], Array]]:
    """How a pair's two layers attend, in their order."""
    attend = partial(causal_attention, positions, segments, softcap=config.attn_logit_softcap)
    return {"local": attend(window=config.sliding_window), "global": attend()}


def logits(config: Gemma2Config, params: Params, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Tied-embedding logits in f32 under the final soft cap."""
    with jax.named_scope("logits"):
        # The vocabulary over all devices that share rows: a few hidden states are sent around
        # instead of the table, and the table's gradient needs no sum over devices.
        shared = divides("vocab_parts", config.vocab_size)
        rows, vocab = ("rows", "vocab_parts") if shared else ("batch", "vocab")
        middle = (None,) * (x.ndim - 2)
        # First where they come from, or a scan over chunks would gather all of them beforehand.
        x = constrain(x, ("batch", *middle, None))
        x = constrain(x, (rows, *middle, None))
        table = constrain(params["embed"].astype(x.dtype), (vocab, None))
        raw = jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)
        raw = constrain(raw, (rows, *middle, vocab))
        return config.final_logit_softcap * jnp.tanh(raw / config.final_logit_softcap)
