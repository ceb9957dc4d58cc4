"""This project: `Sampler` with a slot for each sample, and the trainer's own update."""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import shape as shapes
from benchmarks.peers.protocol import Answer, serve
from grm_jax.bench.config import Stage
from grm_jax.bench.shapes import make_sampler
from grm_jax.bench.updates import Written, make_update
from grm_jax.metric_names import LOSS
from grm_jax.models.hf import load_folder
from grm_jax.sampling.request import Request

FOLDER = sys.argv[1]
SHAPE, _ = shapes.read_model(FOLDER)
MODEL, PARAMS = load_folder(FOLDER)
SAMPLERS, UPDATES = {}, {}


def logits(prompt: int) -> Answer:
    """Of the token after the prompt."""
    tokens = jnp.asarray(shapes.prompt(SHAPE, prompt))[None]

    def last(params, tokens):
        hidden = MODEL.hidden(params, tokens, jnp.arange(prompt)[None])
        return MODEL.logits(params, hidden[0, -1])

    return {"logits": np.asarray(jax.jit(last)(PARAMS, tokens), np.float32).tolist()}


def sample(way: str, k: int, prompt: int, new: int, seed: int) -> Answer:
    """k samples; a request of another number is another prompt's stream."""
    if (k, new) not in SAMPLERS:
        SAMPLERS[k, new] = make_sampler(
            MODEL, PARAMS, slots=k, new=new, temperature=shapes.TEMPERATURE
        )
    request = Request(shapes.prompt(SHAPE, prompt, seed).tolist(), seed, tuple(range(k)))
    start = time.perf_counter()
    drawn = list(SAMPLERS[k, new]([request]))
    seconds = time.perf_counter() - start
    assert [len(completion.tokens) for completion in drawn] == [new] * k
    return {"seconds": seconds, "different": len({c.tokens.tobytes() for c in drawn})}


def update(way: str, stage: Stage, batch: str) -> Answer:
    """One more update of the same weights."""
    key = way, stage, batch
    if key not in UPDATES:
        written = Written(**np.load(batch))
        params = jax.tree.map(jnp.copy, PARAMS)  # the update takes their memory
        UPDATES[key] = make_update(stage, MODEL, params, written, remat=way == "remat")
    start = time.perf_counter()
    metrics = UPDATES[key]()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "loss": metrics[LOSS], "norm": metrics["train/grad_norm"]}


if __name__ == "__main__":
    serve({"logits": logits, "sample": sample, "update": update})
