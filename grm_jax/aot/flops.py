"""How many operations a program's matrix products need, counted from the model's sizes.

Two operations per multiply-add; embedding look-ups, norms and softmax are left out, as is usual.
"""

from __future__ import annotations

from grm_jax.models.model import Model
from grm_jax.models.splash import block_size

# Forward, forward once more for the backward pass (remat), and twice as much backward.
TRAINING = 4
# Of attention's 2 products: those, both once more, and 7 backward, because each of the two kernels
# there (for queries; for keys and values) makes the logits and their gradient by itself.
ATTENTION_TRAINING = 5.5


def forward_flops(model: Model, sequences: int, length: int, *, logits: int) -> float:
    """Sequences of `length` tokens through the trunk, `logits` of their positions to the head."""
    matrices, attention = _trunk(model, sequences, length)
    return matrices + attention + 2.0 * logits * head_size(model)


def training_flops(model: Model, sequences: int, length: int) -> float:
    """An update's passes over the trunk; the head is not counted."""
    matrices, attention = _trunk(model, sequences, length)
    return TRAINING * matrices + ATTENTION_TRAINING * attention


def _trunk(model: Model, sequences: int, length: int) -> tuple[float, float]:
    """Forward operations of the weights, and of attention: q k^T and the sum of values."""
    c = model.config
    heads = (2 * c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    weights = c.num_layers * c.embed_dim * (heads + 3 * c.mlp_dim)
    pairs = c.num_layers // 2 * (attended(length, c.sliding_window) + attended(length, length))
    return (
        2.0 * sequences * length * weights,
        2.0 * sequences * pairs * 2 * c.num_heads * c.head_dim,
    )


def attended(length: int, window: int) -> int:
    """Pairs of query and key that the kernel computes in a row: all of each block with a pair in it
    that is seen."""
    block = block_size(length)
    pairs = 0
    for first in range(0, length, block):  # a block of queries; its first one sees the oldest key
        oldest = max(first - window + 1, 0)
        pairs += block * (first + block - oldest // block * block)
    return pairs


def decode_flops(model: Model, samples: int, prompt: int, new: int) -> float:
    """One more token for each of `samples`, `new` times, each against its prompt and `new` slots.

    Slots that are not written yet are computed and masked; local layers see at most their window.
    """
    c = model.config
    heads = (2 * c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    weights = c.num_layers * c.embed_dim * (heads + 3 * c.mlp_dim)
    near = min(prompt, c.sliding_window) + min(new, c.sliding_window)
    slots = c.num_layers // 2 * (near + prompt + new)
    pairs = 2 * slots * c.num_heads * c.head_dim
    return 2.0 * samples * new * (weights + pairs + head_size(model))


def head_size(model: Model) -> int:
    """Multiply-adds per position of the head."""
    c = model.config
    return c.embed_dim * (c.vocab_size if model.head == "lm" else 1)
