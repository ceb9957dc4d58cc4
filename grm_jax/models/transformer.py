"""The trunk that a `ModelSpec` describes: for each segment a scan over its period of layers.

The scanned body is one period, so masks are static, nothing branches, and the program is as small
for 46 layers as for two. `hidden` is the form of training and scoring, `group_hidden` the same for
several completions of one prompt; decoding.py has those over caches.

Letters: B batch, T query time, S key time, N heads, K key-value heads, G = N/K, H head size,
D model, F feed-forward, V vocabulary, P prompts, R samples of one prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from grm_jax.models.adapted import changed_apart
from grm_jax.models.attention import causal_attention, soft_cap
from grm_jax.models.config import Remat
from grm_jax.models.experts import Routing
from grm_jax.models.group_attention import group_attention
from grm_jax.models.layers import INIT_SCALE, Block, init_norm, rms_norm
from grm_jax.models.remat import rematerialized
from grm_jax.models.spec import (
    Attention,
    Experts,
    Head,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    Segment,
)
from grm_jax.sharding import STACK, constrain, divides, for_tpu

Params = dict[str, Any]
# How the layers of a kind attend: attend(q, k, v).
Attend = Callable[[Array, Array, Array], Array]
# What the gates of some layers did: the layers' numbers, and the Routing of each.
Watched = tuple[tuple[int, ...], Routing]
Watch = Callable[[Watched], None]
ACTIVATION = ("batch", None, None)
TABLE = ("vocab", "embed")


def init(spec: ModelSpec, head: Head, dtype: str, key: Array) -> Params:
    """Random weights as a nested dict (see `axes` for its shape); layers stacked over periods."""
    places = sum(len(segment.period) for segment in spec.segments)
    embed_key, *keys = jax.random.split(key, 1 + places)

    def table(key: Array) -> Array:
        shape = (spec.vocab_size, spec.embed_dim)
        return (INIT_SCALE * jax.random.normal(key, shape, jnp.float32)).astype(dtype)

    def blocks(layer: LayerSpec, repeats: int, key: Array) -> Params:
        one = lambda k: nnx.to_pure_dict(nnx.state(Block(spec, layer, dtype, nnx.Rngs(k))))  # noqa: E731
        return jax.vmap(one)(jax.random.split(key, repeats))

    left = iter(keys)
    params: Params = {
        "embed": table(embed_key),
        "final_norm": init_norm(spec.norm, spec.embed_dim, dtype),
    }
    for segment in spec.segments:
        params[segment.name] = {
            name: blocks(layer, segment.repeats, next(left)) for name, layer in segment.period
        }
    if head == "lm" and not spec.tied:
        params["head"] = table(jax.random.fold_in(embed_key, 1))
    return params


def axes(spec: ModelSpec, head: Head) -> Params:
    """The names of every weight's dimensions, in the structure of `init`."""

    def block(layer: LayerSpec) -> Params:
        _, state = _split_block(spec, layer)
        names = jax.tree.map(
            lambda p: (STACK, *p.get_metadata("axes")),
            state,
            is_leaf=lambda p: isinstance(p, nnx.Variable),
        )
        return nnx.to_pure_dict(names)

    names: Params = {"embed": TABLE, "final_norm": ("norm",)}
    for segment in spec.segments:
        names[segment.name] = {name: block(layer) for name, layer in segment.period}
    if head == "lm" and not spec.tied:
        names["head"] = TABLE
    return names


def _split_block(spec: ModelSpec, layer: LayerSpec) -> tuple[Any, Any]:
    return nnx.split(nnx.eval_shape(lambda: Block(spec, layer, "float32", nnx.Rngs(0))))


def embed(
    spec: ModelSpec, params: Params, tokens: Int[Array, "B T"], dtype
) -> Float[Array, "B T D"]:
    """Token embeddings, scaled; the factor is rounded to `dtype` as Gemma's own code does."""
    with jax.named_scope("embed"):
        # Each device looks up its part of D for the rows of all, and parts are then exchanged for
        # rows: less to send than the table, and its gradient stays where the table lies.
        # Said of the table too, because its gradient would follow that of `logits` otherwise.
        table = constrain(params["embed"], TABLE)
        x = table[constrain(tokens, ("rows", None))].astype(dtype)
        x = constrain(x, ("rows", None, "embed"))
        if spec.embed_scale is not None:
            x = x * jnp.asarray(spec.embed_scale, dtype)
        return constrain(x, ACTIVATION)


def hidden(
    spec: ModelSpec,
    params: Params,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    *,
    dtype,
    remat: Remat = "none",
    watch: Watch | None = None,
) -> Float[Array, "B T D"]:
    """Hidden states after the final norm. `positions` is -1 on padding, and increases along a row
    within a segment; `segments` separates rows that were packed into one. `remat`: see
    `rematerialized`. `watch` is told, before this returns, what the gates of layers with experts
    did."""

    def attends(a: Attention | LatentAttention) -> Attend:
        return causal_attention(positions, segments, window=a.window, softcap=a.softcap)

    x = embed(spec, params, tokens, dtype)
    x = _trunk(spec, params, x, positions, attends, remat, watch)
    return rms_norm(x, params["final_norm"], spec.norm)


def group_hidden(
    spec: ModelSpec,
    params: Params,
    prompts: Int[Array, "P S"],
    prompt_positions: Int[Array, "P S"],
    tokens: Int[Array, "P G T"],
    positions: Int[Array, "P G T"],
    *,
    dtype,
    remat: Remat = "none",
    watch: Watch | None = None,
) -> Float[Array, "P G T D"]:
    """The hidden states that predict `tokens`: G completions of each prompt, which is run once.

    Those of the prompt's last token predict the first tokens. Positions are -1 on padding; prompts
    are padded on the left, completions on the right. `watch`: see `hidden`; a row is a prompt with
    its completions.
    """
    p, g, t = tokens.shape
    s = prompts.shape[1]
    row = jnp.concatenate([prompt_positions, positions.reshape(p, g * t)], axis=1)

    def attends(a: Attention | LatentAttention) -> Attend:
        return group_attention(row, s, g, window=a.window, softcap=a.softcap)

    x = jnp.concatenate([prompts, tokens.reshape(p, g * t)], axis=1)
    x = _trunk(spec, params, embed(spec, params, x, dtype), row, attends, remat, watch)
    first = jnp.broadcast_to(x[:, None, s - 1 : s], (p, g, 1, x.shape[-1]))
    x = jnp.concatenate([first, x[:, s:].reshape(p, g, t, -1)[:, :, :-1]], axis=2)
    return rms_norm(x, params["final_norm"], spec.norm)


def _trunk(
    spec: ModelSpec,
    params: Params,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    attends: Callable[[Attention | LatentAttention], Attend],
    remat: Remat,
    watch: Watch | None,
) -> Float[Array, "B T D"]:
    """All layers but the final norm; `attends` says how a layer attends."""
    kept: dict[tuple[Any, ...], Attend] = {}  # a mask is made once for all layers that share it

    def attend_of(a: Attention | LatentAttention) -> Attend:
        kind = (a.window, a.softcap)
        if kind not in kept:
            attend = attends(a)
            if remat == "attention" and not for_tpu():  # splash keeps no weights anyway
                attend = jax.checkpoint(attend, prevent_cse=False)
            kept[kind] = attend
        return kept[kind]

    first = 0
    for segment in spec.segments:
        parts = [
            (name, _split_block(spec, layer)[0], attend_of(layer.attention))
            for name, layer in segment.period
        ]

        def body(x: Array, period: Params, parts: Any = parts) -> tuple[Array, list[Routing]]:
            seen: list[Routing] = []
            for name, graph, attend in parts:
                x = constrain(x, ACTIVATION)
                with jax.named_scope(name):
                    see = None if watch is None else seen.append
                    x = nnx.merge(graph, period[name])(x, positions, attend, see)
            return x, seen

        parted: list[list[Routing]] = []
        for periods in changed_apart(params[segment.name]):
            x, seen = jax.lax.scan(rematerialized(body, remat), x, periods)
            parted.append(seen)
        seen = jax.tree.map(lambda *part: jnp.concatenate(part), *parted)
        for numbers, routing in zip(_with_experts(segment, first), seen, strict=False):
            assert watch is not None
            watch((numbers, routing))
        first += segment.repeats * len(segment.period)
    return x


def _with_experts(segment: Segment, first: int) -> list[tuple[int, ...]]:
    """Of each layer of the period that has experts, its numbers in the model."""
    size = len(segment.period)
    return [
        tuple(range(first + place, first + segment.repeats * size, size))
        for place, (_, layer) in enumerate(segment.period)
        if isinstance(layer.mlp, Experts)
    ]


def logits(spec: ModelSpec, params: Params, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Logits in f32, under the final soft cap where there is one."""
    with jax.named_scope("logits"):
        # The vocabulary over all devices that share rows: a few hidden states are sent around
        # instead of the table, and the table's gradient needs no sum over devices.
        shared = divides("vocab_parts", spec.vocab_size)
        rows, vocab = ("rows", "vocab_parts") if shared else ("batch", "vocab")
        middle = (None,) * (x.ndim - 2)
        # First where they come from, or a scan over chunks would gather all of them beforehand.
        x = constrain(x, ("batch", *middle, None))
        x = constrain(x, (rows, *middle, None))
        table = constrain(head_table(spec, params).astype(x.dtype), (vocab, None))
        raw = jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)
        raw = constrain(raw, (rows, *middle, vocab))
        return soft_cap(raw, spec.softcap)


def head_table(spec: ModelSpec, params: Params) -> Float[Array, "V D"]:
    """What logits are made with: the embedding's own table, or another."""
    return params["embed"] if spec.tied else params["head"]
