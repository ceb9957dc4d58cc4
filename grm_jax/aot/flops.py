"""How many operations a program's matrix products need, counted from the model's sizes.

Two operations per multiply-add; embedding look-ups, norms and softmax are left out, as is usual.
"""

from __future__ import annotations

from grm_jax.models.model import Model

# Forward, forward once more for the backward pass (remat), and twice as much backward.
TRAINING = 4


def forward_flops(model: Model, rows: int, length: int, *, logits: int) -> float:
    """Rows of `length` tokens through the trunk, and `logits` of their positions to the head.

    Attention counts every pair of positions: the reference form computes all, and masks.
    """
    c = model.config
    heads = (2 * c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    weights = c.num_layers * c.embed_dim * (heads + 3 * c.mlp_dim)
    pairs = c.num_layers * 2 * length * c.num_heads * c.head_dim
    return 2.0 * rows * length * (weights + pairs) + 2.0 * logits * head_size(model)


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
