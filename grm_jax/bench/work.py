"""The least that any program must do for a job: bytes from and to memory, and operations.

A prompt is forwarded once for all its samples, weights are read once per pass, a cache is read as
far as it is written and seen. Letters: P prompt tokens, T new tokens, k samples of a prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from grm_jax.bench.limits import Limits
from grm_jax.models.model import Model
from grm_jax.models.spec import Attention, Experts, LatentAttention

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
    cache = sum(min(prompt, a.window or prompt) * _slot(a, model.dtype) for a in _attentions(model))
    return Work(
        _multiplied(model) * _itemsize(model.param_dtype) + cache,
        _forward(model, prompt, seen(model, 0, prompt), logits=1),
    )


def decode_work(model: Model, k: int, prompt: int, new: int) -> Work:
    """The T - 1 steps after the first token, each for all k samples."""
    steps, cache = range(prompt, prompt + new - 1), 0
    for a, layers in Counter(_attentions(model)).items():
        # Keys of the prompt are read once for all samples, a sample's own for itself.
        near = [min(p + 1, a.window or p + 1) for p in steps]
        own = [min(p + 1 - prompt, n) for p, n in zip(steps, near, strict=True)]
        shared = sum(n - o for n, o in zip(near, own, strict=True))
        cache += layers * _slot(a, model.dtype) * (shared + k * sum(own))
    weights = len(steps) * _multiplied(model) * _itemsize(model.param_dtype)
    return Work(
        weights + cache,
        k * _forward(model, len(steps), seen(model, prompt, prompt + new - 1), logits=len(steps)),
    )


def file_work(model: Model, prompts: Sequence[int], written: int, slots: int) -> Work:
    """Prompts of such lengths, and so many tokens written in slots that are never empty; what the
    written tokens read of caches is left out."""
    first = [prefill_work(model, length) for length in prompts]
    weights = _multiplied(model) * _itemsize(model.param_dtype)
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
    return sum(
        layers * sum(min(p + 1, a.window or p + 1) for p in range(first, last))
        for a, layers in Counter(_attentions(model)).items()
    )


def _update(model: Model, forward: float) -> Work:
    """Forward and backward; weights and both moments are read and written, gradients too."""
    numbers = 2 * 4 * model.num_params()
    return Work(numbers * _itemsize(model.param_dtype), (1 + BACKWARD) * forward)


def _forward(model: Model, tokens: int, pairs: int, *, logits: int) -> float:
    """Operations of the matrix products for so many tokens, attended pairs and logits."""
    head = model.spec.vocab_size * model.spec.embed_dim
    trunk = _multiplied(model) - head  # norms, which are no products, are too few to matter
    a = model.spec.layers[0].attention  # all layers of a family have queries of one size
    values = a.value_dim if isinstance(a, LatentAttention) else a.head_dim
    pair = a.num_heads * (a.head_dim + values)
    return 2.0 * (tokens * trunk + pairs * pair + logits * head)


def _multiplied(model: Model) -> int:
    """How many weights a token meets: all, but for a table that is only looked up and experts that
    it does not go to."""
    spec = model.spec
    table = 0 if spec.tied else spec.vocab_size * spec.embed_dim
    mixtures = [layer.mlp for layer in spec.layers if isinstance(layer.mlp, Experts)]
    passed = sum((mlp.count - mlp.chosen) * 3 * mlp.dim * spec.embed_dim for mlp in mixtures)
    return model.num_params() - table - passed


def _attentions(model: Model) -> list[Attention | LatentAttention]:
    return [layer.attention for layer in model.spec.layers]


def _slot(a: Attention | LatentAttention, dtype: str) -> int:
    """Bytes of a key and a value of one position in one layer; a latent vector is both."""
    arrays = 1 if isinstance(a, LatentAttention) else 2
    return arrays * a.cache_heads * a.cache_dim * _itemsize(dtype)


def _itemsize(dtype: str) -> int:
    return {"float32": 4, "bfloat16": 2}[dtype]


def floor_seconds(phases: Sequence[Work], limits: Limits) -> float:
    """The time that no run of these phases, one after another, can beat."""
    return sum(phase.seconds(limits) for phase in phases)
