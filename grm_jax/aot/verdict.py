"""The least that judging and training cost on a chip, by the model's sizes; nothing is compiled.

A cost is in chip-seconds. Work is shared by all chips without a loss, so that their number does not
matter: arithmetic goes at the chip's peak, or weights and caches come from memory at its peak,
whichever takes longer.
Letters: k samples of a prompt.
"""

from __future__ import annotations

from grm_jax.aot.chips import Chip
from grm_jax.aot.flops import cached_pair_size, head_size, pair_size, trunk_size
from grm_jax.bench.work import seen
from grm_jax.models.model import Model
from grm_jax.models.spec import Experts, LatentAttention, LayerSpec

BYTES = 2  # of a number in bf16
BACKWARD = 2  # as much again for the gradient of the inputs and for that of the weights


def judging(model: Model, chip: Chip, k: int, prompt: int, new: int, slots: int) -> float:
    """A verdict: a prompt, and k samples of `new` tokens each, drawn `slots` at a time.

    Slots are never empty: those that a verdict leaves are other verdicts'.
    """
    # Prompts can share a pass over the weights, and are then bound by arithmetic.
    first = chip.seconds(forward(model, 0, prompt), 0)
    prompts = max(slots / k, 1)
    moved = weights_read(model, slots)
    moved += prompts * cache_size(model, prompt) + slots * cache_size(model, (new + 1) / 2)
    flops = slots * decoded(model, prompt, new)
    return first + k * new * chip.seconds(flops, moved) / slots


def rating(model: Model, chip: Chip, k: int, prompt: int, new: int) -> float:
    """The meta RM's ratings of k samples of a prompt, which they share."""
    flops = forward(model, 0, prompt) + k * forward(model, prompt, prompt + new)
    return chip.seconds(flops, 0)


def update(model: Model, chip: Chip, first: int, last: int, *, logits: int) -> float:
    """Forward and backward over the tokens at positions first .. last - 1 of a sequence, of which
    `logits` are learned."""
    flops = forward(model, first, last) + 2.0 * logits * head_size(model)
    return chip.seconds((1 + BACKWARD) * flops, 0)


def forward(model: Model, first: int, last: int) -> float:
    """Operations of the trunk on the tokens at positions first .. last - 1."""
    pairs = seen(model, first, last) * pair_size(model.spec.layers[0])
    return 2.0 * ((last - first) * trunk_size(model) + pairs)


def decoded(model: Model, prompt: int, new: int) -> float:
    """Operations of a drawn token, the mean of `new` of them, with its logits."""
    pairs = seen(model, prompt, prompt + new) * cached_pair_size(model.spec.layers[0]) / new
    return 2.0 * (trunk_size(model) + pairs + head_size(model))


def weights_size(model: Model) -> float:
    """Bytes of all weights."""
    return BYTES * model.num_params()


def weights_read(model: Model, tokens: int) -> float:
    """Bytes of weights that a pass over so many tokens reads.

    A table that is only looked up is not read, nor are experts that no token goes to: of E experts
    that are chosen evenly, k for each of n tokens, E (1 - k / E)^n.
    """
    spec = model.spec
    passed = 0.0 if spec.tied else spec.vocab_size * spec.embed_dim
    for layer in spec.layers:
        if isinstance(mlp := layer.mlp, Experts):
            idle = mlp.count * (1 - mlp.chosen / mlp.count) ** tokens
            passed += idle * 3 * mlp.dim * spec.embed_dim
    return BYTES * (model.num_params() - passed)


def cache_size(model: Model, tokens: float) -> float:
    """Bytes of the keys and values of so many tokens, in all layers."""

    def kept(layer: LayerSpec) -> float:
        a = layer.attention
        both = 1 if isinstance(a, LatentAttention) else 2  # a latent vector is key and value
        return min(tokens, a.window or tokens) * both * a.cache_heads * a.cache_dim

    return BYTES * sum(map(kept, model.spec.layers))
