"""Plain JAX: the prompt forwarded and stored once, for drawing and for updates."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peers import shape as shapes
from benchmarks.peers.protocol import Answer, serve
from benchmarks.peers.rows import plain_model as model

SHAPE, TENSORS = shapes.read_model(sys.argv[1])
PARAMS = model.load(SHAPE, TENSORS)
OPTIMIZER = optax.adamw(1e-6, b1=0.9, b2=0.999, weight_decay=0.0)
CHUNK = 256  # positions whose logits are in memory at once
UPDATES: dict[tuple, Any] = {}


def logits(prompt: int) -> Answer:
    """Of the token after the prompt."""
    tokens = jnp.asarray(shapes.prompt(SHAPE, prompt))[None]

    @jax.jit
    def last(params: Any) -> Any:
        hidden, _ = model.forward(
            SHAPE, params, tokens, jnp.arange(prompt)[None], model.causal(prompt)
        )
        return model.logits(SHAPE, params, hidden[:, -1])[:, 0]

    return {"logits": np.asarray(last(PARAMS), np.float32).tolist()}


def sample(way: str, k: int, prompt: int, new: int, seed: int) -> Answer:
    """k samples of the prompt."""
    tokens = jnp.asarray(shapes.prompt(SHAPE, prompt, seed))
    start = time.perf_counter()
    drawn = np.asarray(model.generate(SHAPE, PARAMS, tokens, jax.random.key(seed), k=k, new=new))
    seconds = time.perf_counter() - start
    assert (drawn > 1).all()
    return {"seconds": seconds, "different": len(np.unique(drawn, axis=0))}


def token_logprobs(params: Any, hidden: Any, targets: Any) -> Any:
    """log p of targets [R] after hidden [R, D]; logits of a chunk at a time, both ways."""

    @jax.checkpoint
    def chunk(part: tuple) -> Any:
        scores = model.logits(SHAPE, params, part[0])
        picked = jnp.take_along_axis(scores, part[1][None], 0)[0]
        return picked - jax.nn.logsumexp(scores, 0)

    rest = -len(targets) % CHUNK
    hidden, targets = jnp.pad(hidden, ((0, rest), (0, 0))), jnp.pad(targets, (0, rest))
    parts = hidden.reshape(-1, CHUNK, hidden.shape[-1]), targets.reshape(-1, CHUNK)
    return jax.lax.map(chunk, parts).reshape(-1)[: len(targets) - rest]


def sft_loss(params: Any, batch: shapes.Batch) -> Any:
    """Mean negative log-likelihood of all tokens but the first."""
    rows = batch.rows
    count, length = rows.shape
    positions = jnp.broadcast_to(jnp.arange(length), rows.shape)
    hidden, _ = model.forward(SHAPE, params, rows, positions, model.causal(length), remat=True)
    hidden = hidden[:, :-1].reshape(count * (length - 1), -1)
    return -token_logprobs(params, hidden, jnp.asarray(rows[:, 1:].reshape(-1))).mean()


def grpo_loss(params: Any, batch: shapes.Batch) -> Any:
    """On-policy GRPO with 0.04 k3; a row is a prompt and behind it all its completions, which see
    the prompt and themselves."""
    prompts, group, new = batch.completions.shape
    length = batch.prompts.shape[1]
    rows = np.concatenate([batch.prompts, batch.completions.reshape(prompts, -1)], axis=1)
    owner = np.concatenate([np.zeros(length, int), np.repeat(np.arange(1, group + 1), new)])
    each = np.concatenate([np.arange(length), np.tile(np.arange(length, length + new), group)])
    sees = ((owner[:, None] == owner) | (owner == 0)) & (each[:, None] >= each)
    positions = jnp.broadcast_to(jnp.asarray(each), rows.shape)
    hidden, _ = model.forward(
        SHAPE, params, jnp.asarray(rows), positions, jnp.asarray(sees)[None], remat=True
    )
    written = hidden[:, length:].reshape(prompts, group, new, -1)
    first = jnp.broadcast_to(hidden[:, None, length - 1 : length], written[:, :, :1].shape)
    before = jnp.concatenate([first, written[:, :, :-1]], axis=2)
    targets = jnp.asarray(batch.completions.reshape(-1))
    logprob = token_logprobs(params, before.reshape(len(targets), -1), targets)
    logprob = logprob.reshape(batch.completions.shape)
    ratio = jnp.exp(logprob - jax.lax.stop_gradient(logprob))
    advantage = batch.advantage[..., None]
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
    off = batch.reference - logprob
    return (-gain + 0.04 * (jnp.exp(off) - off - 1)).mean()


LOSSES: dict[str, Callable[[Any, shapes.Batch], Any]] = {"sft": sft_loss, "grpo": grpo_loss}


def update(way: str, stage: str, batch: str) -> Answer:
    """One more update of the same weights."""
    key = stage, batch
    if key not in UPDATES:
        loss = partial(LOSSES[stage], batch=shapes.read_batch(batch))

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(params: Any, state: Any) -> tuple:
            value, gradient = jax.value_and_grad(loss)(params)
            change, state = OPTIMIZER.update(gradient, state, params)
            params = optax.apply_updates(params, change)
            return params, state, value, optax.global_norm(gradient)

        params = jax.tree.map(jnp.copy, PARAMS)
        UPDATES[key] = [step, params, OPTIMIZER.init(params)]
    entry = UPDATES[key]
    start = time.perf_counter()
    *entry[1:], value, norm = jax.block_until_ready(entry[0](*entry[1:]))
    return {"seconds": time.perf_counter() - start, "loss": float(value), "norm": float(norm)}


if __name__ == "__main__":
    serve({"logits": logits, "sample": sample, "update": update})
