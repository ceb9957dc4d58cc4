"""The least that any program must do for a job: bytes from and to memory, and operations.

A prompt is forwarded once for all its samples, weights are read once per pass, a cache is read as
far as it is written and seen. Letters: P prompt tokens, T new tokens, k samples of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grm_jax.bench.limits import Limits
from grm_jax.models.model import Model

BACKWARD = 2  # as much again for the gradient of the inputs and for that of the weights


@dataclass(frozen=True)
class Work:
    """One phase of a job: `bytes` from and to memory, `flops` two per multiply-add."""

    bytes: float
    flops: float

    def seconds(self, limits: Limits) -> float:
        """No run is faster: the longer of the time of memory and that of arithmetic."""
        return max(self.bytes / limits.bandwidth, self.flops / limits.flops)


def prefill_work(model: Model, prompt: int) -> Work:
    """One prompt: all weights, which any program reads for it, and the cache that it leaves."""
    c = model.config
    cache = c.num_pairs * (prompt + min(prompt, c.sliding_window)) * _slot(model)
    return Work(
        model.num_params() * _itemsize(model.param_dtype) + cache,
        _forward(model, prompt, seen(model, 0, prompt), logits=1),
    )


def decode_work(model: Model, k: int, prompt: int, new: int) -> Work:
    """The T - 1 steps after the first token, each for all k samples."""
    c, steps = model.config, range(prompt, prompt + new - 1)
    # Keys of the prompt are read once for all samples, a sample's own for itself.
    near = [min(p + 1, c.sliding_window) for p in steps]
    own_near = [min(p + 1 - prompt, n) for p, n in zip(steps, near, strict=True)]
    shared = sum(n - own + prompt for n, own in zip(near, own_near, strict=True))
    own = sum(n + p + 1 - prompt for p, n in zip(steps, own_near, strict=True))
    weights = len(steps) * model.num_params() * _itemsize(model.param_dtype)
    return Work(
        weights + c.num_pairs * _slot(model) * (shared + k * own),
        k * _forward(model, len(steps), seen(model, prompt, prompt + new - 1), logits=len(steps)),
    )


def file_work(model: Model, prompts: Sequence[int], written: int, slots: int) -> Work:
    """Prompts of such lengths, and so many tokens written in slots that are never empty; what the
    written tokens read of caches is left out."""
    first = [prefill_work(model, length) for length in prompts]
    weights = model.num_params() * _itemsize(model.param_dtype)
    return Work(
        # Prompts can share a pass, and are then bound by arithmetic.
        weights * written / slots,
        sum(work.flops for work in first) + _forward(model, written, 0, logits=written),
    )


def sft_work(model: Model, rows: int, length: int) -> Work:
    """An update that learns every token but the first of each row."""
    targets = length - 1
    return _update(model, rows * _forward(model, length, seen(model, 0, length), logits=targets))


def completions_work(model: Model, prompts: int, group: int, prompt: int, new: int) -> Work:
    """An update that learns `group` completions of each prompt, which is forwarded once."""
    one = _forward(model, prompt, seen(model, 0, prompt), logits=0)
    # The last token of a completion is learned, and nothing is learned after it.
    last = prompt + new - 1
    each = _forward(model, new - 1, seen(model, prompt, last), logits=new)
    return _update(model, prompts * (one + group * each))


def seen(model: Model, first: int, last: int) -> int:
    """Pairs of a query at positions first .. last - 1 and a key that it sees, in all layers."""
    c = model.config
    return c.num_pairs * sum(min(p + 1, c.sliding_window) + p + 1 for p in range(first, last))


def _update(model: Model, forward: float) -> Work:
    """Forward and backward; weights and both moments are read and written, gradients too."""
    numbers = 2 * 4 * model.num_params()
    return Work(numbers * _itemsize(model.param_dtype), (1 + BACKWARD) * forward)


def _forward(model: Model, tokens: int, pairs: int, *, logits: int) -> float:
    """Operations of the matrix products for so many tokens, attended pairs and logits."""
    c = model.config
    head = c.vocab_size * c.embed_dim
    trunk = model.num_params() - head  # norms, which are no products, are too few to matter
    attention = 2 * c.num_heads * c.head_dim
    return 2.0 * (tokens * trunk + pairs * attention + logits * head)


def _slot(model: Model) -> int:
    """Bytes of a key and a value of one position in one layer."""
    return 2 * model.config.num_kv_heads * model.config.head_dim * _itemsize(model.dtype)


def _itemsize(dtype: str) -> int:
    return {"float32": 4, "bfloat16": 2}[dtype]


def floor_seconds(phases: Sequence[Work], limits: Limits) -> float:
    """The time that no run of these phases, one after another, can beat."""
    return sum(phase.seconds(limits) for phase in phases)
