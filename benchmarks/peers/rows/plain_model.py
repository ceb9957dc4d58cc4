"""Gemma-2 in plain JAX, as one would write it by hand for this bench: the bar for ours.

Weights of q, k and v are one matrix and so are gate and up; layers are a Python loop. The prompt's
keys and values are stored once for all samples, and each token takes one uniform number.
Letters: B rows, T positions, P prompt, k samples, N heads, K key-value heads, G = N/K, H head size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.shape import EOS, NORMS, PAD, TEMPERATURE, Shape

HIDDEN = -1e30
BLOCK = 256  # of tokens, in the search for the one that was drawn


def load(shape: Shape, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Weights as they are multiplied; norms with their 1 added."""

    def layer(name: str) -> dict[str, Any]:
        def weight(part: str) -> Any:
            return jnp.asarray(tensors[f"{name}{part}.weight"]).T

        return {
            "qkv": jnp.concatenate([weight(f"self_attn.{x}_proj") for x in "qkv"], axis=1),
            "o": weight("self_attn.o_proj"),
            "up": jnp.concatenate([weight("mlp.gate_proj"), weight("mlp.up_proj")], axis=1),
            "down": weight("mlp.down_proj"),
            "norms": 1 + jnp.stack([jnp.asarray(tensors[f"{name}{n}.weight"]) for n in NORMS]),
        }

    return {
        "embed": jnp.asarray(tensors["model.embed_tokens.weight"]),
        "norm": 1 + jnp.asarray(tensors["model.norm.weight"]),
        "layers": [layer(f"model.layers.{i}.") for i in range(shape.num_hidden_layers)],
    }


def capped(x: Any, cap: float) -> Any:
    """Gemma-2's soft cap."""
    return cap * jnp.tanh(x / cap)


def normed(shape: Shape, x: Any, scale: Any) -> Any:
    """RMS norm, in f32."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + shape.rms_norm_eps)
    return (wide * scale).astype(x.dtype)


def rotated(shape: Shape, x: Any, positions: Any) -> Any:
    """Rotary phases of x [.., heads, H] at positions [..]."""
    half = x.shape[-1] // 2
    angle = positions[..., None, None] * shape.rope_theta ** (-jnp.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, -1).astype(x.dtype)


def projected(shape: Shape, layer: Any, x: Any, positions: Any) -> tuple[Any, Any, Any]:
    """q [.., N, H], scaled, and k, v [.., K, H]."""
    n, kv, h = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
    y = (x @ layer["qkv"]).reshape(*x.shape[:-1], n + 2 * kv, h)
    q = rotated(shape, y[..., :n, :], positions) * shape.query_pre_attn_scalar**-0.5
    return q, rotated(shape, y[..., n : n + kv, :], positions), y[..., n + kv :, :]


def block(shape: Shape, layer: Any, x: Any, attend: Any) -> Any:
    """One layer around its attention."""
    before, after, before_mlp, after_mlp = layer["norms"]
    x = x + normed(shape, attend(normed(shape, x, before)) @ layer["o"], after)
    gate, up = jnp.split(normed(shape, x, before_mlp) @ layer["up"], 2, -1)
    down = (jax.nn.gelu(gate, approximate=True) * up) @ layer["down"]
    return x + normed(shape, down, after_mlp)


def embedded(shape: Shape, params: Any, tokens: Any) -> Any:
    """Embeddings times the root of their width."""
    x = params["embed"][tokens]
    return x * jnp.asarray(shape.hidden_size**0.5, x.dtype)


def forward(
    shape: Shape, params: Any, tokens: Any, positions: Any, sees: Any, *, remat: bool = False
) -> tuple[Any, list]:
    """tokens [B, T] under the mask sees [B or 1, T, T]; hidden states and each layer's k, v."""
    groups = shape.num_attention_heads // shape.num_key_value_heads
    near = positions[:, :, None] - positions[:, None, :] < shape.sliding_window

    def layer(weights: Any, x: Any, *, local: bool) -> tuple[Any, Any]:
        kept = []

        def attend(x: Any) -> Any:
            q, k, v = projected(shape, weights, x, positions)
            kept.append((k, v))
            q = q.reshape(*q.shape[:2], -1, groups, q.shape[-1])
            scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
            mask = (sees & near if local else sees)[:, None, None]
            scores = jnp.where(mask, capped(scores, shape.attn_logit_softcapping), HIDDEN)
            weight = jax.nn.softmax(scores, -1).astype(x.dtype)
            out = jnp.einsum("bkgts,bskh->btkgh", weight, v)
            return out.reshape(*out.shape[:2], -1)

        return block(shape, weights, x, attend), kept[0]

    x, cache = embedded(shape, params, tokens), []
    for i, weights in enumerate(params["layers"]):
        one = partial(layer, local=i % 2 == 0)
        x, kept = (jax.checkpoint(one) if remat else one)(weights, x)
        cache.append(kept)
    return normed(shape, x, params["norm"]), cache


def logits(shape: Shape, params: Any, hidden: Any) -> Any:
    """[V, R] for hidden states [R, D]: on a CPU this product is the faster one of the two."""
    raw = jnp.einsum("vd,rd->vr", params["embed"], hidden, preferred_element_type=jnp.float32)
    return capped(raw, shape.final_logit_softcapping)


def causal(length: int) -> Any:
    """[1, T, T]."""
    return jnp.tril(jnp.ones((1, length, length), bool))


def draw(key: Any, logits: Any) -> Any:
    """One token for each column of [V, k]: the block in which a uniform number falls, and then the
    token."""
    logits = logits.at[jnp.array([PAD, EOS])].set(-jnp.inf) / TEMPERATURE
    weight = jnp.exp(logits - logits.max(0)).reshape(-1, BLOCK, logits.shape[1])
    total = jnp.cumsum(weight.sum(1), 0)
    aim = jax.random.uniform(key, logits.shape[1:]) * total[-1]
    at = jnp.minimum((total <= aim).sum(0), len(total) - 1)
    row = jnp.arange(logits.shape[1])
    rest = aim - jnp.where(at > 0, total[jnp.maximum(at - 1, 0), row], 0.0)
    within = (jnp.cumsum(weight[at, :, row], -1) <= rest[:, None]).sum(-1)
    return (at * BLOCK + jnp.minimum(within, BLOCK - 1)).astype(jnp.int32)


@partial(jax.jit, static_argnames=("shape", "k", "new"))
def generate(shape: Shape, params: Any, prompt: Any, key: Any, *, k: int, new: int) -> Any:
    """[k, new] tokens after the prompt [P]."""
    length = len(prompt)
    hidden, cache = forward(shape, params, prompt[None], jnp.arange(length)[None], causal(length))
    oldest = max(length - shape.sliding_window + 1, 0)
    prefixes = [
        tuple(x[0, oldest if i % 2 == 0 else 0 :].swapaxes(0, 1) for x in kept)  # [K, P, H]
        for i, kept in enumerate(cache)
    ]
    size = (k, shape.num_key_value_heads, new, shape.head_dim)
    own = [(jnp.zeros(size, hidden.dtype),) * 2 for _ in cache]
    token = draw(
        jax.random.fold_in(key, 0),
        jnp.broadcast_to(logits(shape, params, hidden[:, -1]), (shape.vocab_size, k)),
    )
    tokens = jnp.zeros((k, new), jnp.int32).at[:, 0].set(token)

    def advance(state: tuple) -> tuple:
        step, token, tokens, own = state
        hidden, own = decode(shape, params, token, length, step, prefixes, own)
        token = draw(jax.random.fold_in(key, step + 1), logits(shape, params, hidden))
        tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, step + 1))
        return step + 1, token, tokens, own

    state = (jnp.int32(0), token, tokens, own)
    return jax.lax.while_loop(lambda state: state[0] < new - 1, advance, state)[2]


def decode(
    shape: Shape, params: Any, token: Any, length: int, step: Any, prefixes: list, own: list
) -> tuple[Any, list]:
    """One token of each sample: hidden states [k, D] and what the samples' caches are then."""
    position, after = length + step, []
    x = embedded(shape, params, token)
    for i, (layer, prefix, kept) in enumerate(zip(params["layers"], prefixes, own, strict=True)):
        window = shape.sliding_window if i % 2 == 0 else None

        def attend(x: Any, layer=layer, prefix=prefix, kept=kept, window=window) -> Any:
            positions = jnp.full(x.shape[:1], position)
            q, *new = projected(shape, layer, x, positions)
            keys, values = (
                jax.lax.dynamic_update_slice(old, one[:, :, None], (0, 0, step, 0))
                for old, one in zip(kept, new, strict=True)
            )
            after.append((keys, values))
            return shared_attention(shape, q, prefix, (keys, values), length, step, window)

        x = block(shape, layer, x, attend)
    return normed(shape, x, params["norm"]), after


def shared_attention(
    shape: Shape, q: Any, prefix: Any, own: Any, length: int, step: Any, window: int | None
) -> Any:
    """q [k, N, H] over the prompt's keys, read once for all samples, and each sample's own."""
    k, kv = q.shape[0], shape.num_key_value_heads
    q = q.reshape(k, kv, -1, q.shape[-1])
    flat = q.swapaxes(0, 1).reshape(kv, -1, q.shape[-1])  # one product for each key-value head
    first = jnp.einsum("kqh,kph->kqp", flat, prefix[0], preferred_element_type=jnp.float32)
    first = first.reshape(kv, k, -1, first.shape[-1]).swapaxes(0, 1)
    second = jnp.einsum("rkgh,rksh->rkgs", q, own[0], preferred_element_type=jnp.float32)
    first, second = (capped(x, shape.attn_logit_softcapping) for x in (first, second))
    slots = jnp.arange(second.shape[-1])
    written = slots <= step
    if window is not None:
        positions = jnp.arange(length - first.shape[-1], length)
        first = jnp.where(positions > length + step - window, first, HIDDEN)
        written &= slots > step - window
    second = jnp.where(written, second, HIDDEN)
    most = jnp.maximum(first.max(-1), second.max(-1))[..., None]
    first, second = jnp.exp(first - most), jnp.exp(second - most)
    total = (first.sum(-1) + second.sum(-1))[..., None]
    first, second = first.astype(q.dtype), second.astype(q.dtype)
    of_prompt = first.swapaxes(0, 1).reshape(kv, -1, first.shape[-1])
    of_prompt = jnp.einsum("kqp,kph->kqh", of_prompt, prefix[1]).reshape(kv, k, -1, q.shape[-1])
    out = of_prompt.swapaxes(0, 1) + jnp.einsum("rkgs,rksh->rkgh", second, own[1])
    return (out / total).astype(q.dtype).reshape(k, -1)
