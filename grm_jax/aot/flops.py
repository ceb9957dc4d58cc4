"""The operations in a program's matrix products, counted from the sizes of the model.

A multiply-add is two operations. Embedding look-ups, norms and softmax are left out, as is usual.
"""

from __future__ import annotations

from grm_jax.models.config import Remat
from grm_jax.models.model import Model
from grm_jax.models.spec import Experts, LatentAttention, LayerSpec
from grm_jax.models.splash import Group, block_size

# The forward pass, and twice as much backward; one more forward if nothing of a layer is kept.
KEPT, MADE_AGAIN = 3, 4
# Attention has 2 products forward and 7 backward, because each of the two kernels there (one for
# queries, one for keys and values) computes the logits and their gradient for itself.
ATTENTION_KEPT, ATTENTION_MADE_AGAIN = 4.5, 5.5


def forward_flops(
    model: Model, sequences: int, length: int, *, logits: int, group: Group | None = None
) -> float:
    """Sequences of `length` tokens through the trunk, and `logits` of their positions to the head.

    group: given if the rows are groups.
    """
    matrices, attention = _trunk(model, sequences, length, group)
    return matrices + attention + 2.0 * logits * head_size(model)


def training_flops(
    model: Model, sequences: int, length: int, *, remat: Remat = "full", group: Group | None = None
) -> float:
    """The passes of an update over the trunk, without the head."""
    matrices, attention = _trunk(model, sequences, length, group)
    if remat == "full":
        spared = 2.0 * sequences * length * sum(map(_spared, model.spec.layers))
        return (
            MADE_AGAIN * matrices - spared * model.spec.embed_dim + ATTENTION_MADE_AGAIN * attention
        )
    return KEPT * matrices + ATTENTION_KEPT * attention


def _spared(layer: LayerSpec) -> int:
    """How wide the matrix is with which a layer ends, if its product is not made again: a gradient
    needs that product only where it is normed, or weighed by a gate."""
    if layer.post_norms:
        return 0
    return layer.mlp.shared_dim if isinstance(layer.mlp, Experts) else layer.mlp.dim


def _trunk(model: Model, sequences: int, length: int, group: Group | None) -> tuple[float, float]:
    """Forward operations of the weights, and of attention (q k^T and the sum of values)."""
    windows = {window or length for window in model.spec.windows}
    seen = {window: attended(length, window, group) for window in windows}
    attention = sum(
        seen[layer.attention.window or length] * pair_size(layer) for layer in model.spec.layers
    )
    return 2.0 * sequences * length * trunk_size(model), 2.0 * sequences * attention


def attended(length: int, window: int, group: Group | None = None) -> int:
    """Pairs of query and key that the kernel computes in a row: every pair of a block in which any
    pair is visible."""
    block = block_size(length)
    if group is not None:
        return _attended_in_group(length, window, group, block)
    pairs = 0
    for first in range(0, length, block):  # blocks of queries; the first query sees the oldest key
        oldest = max(first - window + 1, 0)
        pairs += block * (first + block - oldest // block * block)
    return pairs


def _attended_in_group(length: int, window: int, group: Group, block: int) -> int:
    """The same for a prompt with completions, where a query sees two ranges of keys."""
    met = set()
    for query in range(-(-length // block) * block):
        inside = (query - group.prompt) % group.completion
        own, ago = (query - inside, group.prompt + inside) if query >= group.prompt else (0, query)
        for first, last in (
            (max(own, query - window + 1), query),
            (max(ago - window + 1, 0), min(ago, group.prompt - 1)),
        ):
            keys = range(first // block, last // block + 1) if first <= last else ()
            met |= {(query // block, key) for key in keys}
    return len(met) * block**2


def decode_flops(model: Model, samples: int, prompt: int, new: int) -> float:
    """`new` tokens for each of `samples`, each against its prompt and `new` slots.

    Slots that are not written yet are computed and masked; a layer sees at most its window.
    """
    longest = max(prompt, new)
    pairs = 0
    for layer in model.spec.layers:
        window = layer.attention.window or longest
        pairs += (min(prompt, window) + min(new, window)) * cached_pair_size(layer)
    return 2.0 * samples * new * (trunk_size(model) + pairs + head_size(model))


def trunk_size(model: Model) -> int:
    """Multiply-adds per token of the matrices of all layers; of experts, those that it goes to."""
    d = model.spec.embed_dim
    return sum(attention_size(layer, d) + mlp_size(layer, d) for layer in model.spec.layers)


def attention_size(layer: LayerSpec, d: int) -> int:
    """Those of attention's matrices; as many where latent attention is absorbed."""
    a = layer.attention
    queries = a.num_heads * a.head_dim
    if not isinstance(a, LatentAttention):
        return d * (2 * queries + 2 * a.num_kv_heads * a.head_dim)
    low = d * queries if a.query_rank is None else a.query_rank * (d + queries)
    made = a.latent_dim * a.num_heads * (a.nope_dim + a.value_dim)
    return low + d * a.cache_dim + made + d * a.num_heads * a.value_dim


def mlp_size(layer: LayerSpec, d: int) -> int:
    """Those of the feed-forward's matrices, and of a router."""
    mlp = layer.mlp
    if not isinstance(mlp, Experts):
        return 3 * d * mlp.dim
    return d * (3 * (mlp.chosen * mlp.dim + mlp.shared_dim) + mlp.count)


def pair_size(layer: LayerSpec) -> int:
    """Multiply-adds of a query and a key of all heads: their product, and the sum of values."""
    a = layer.attention
    values = a.value_dim if isinstance(a, LatentAttention) else a.head_dim
    return a.num_heads * (a.head_dim + values)


def cached_pair_size(layer: LayerSpec) -> int:
    """The same over a cache, where a latent vector is both key and value."""
    return 2 * layer.attention.num_heads * layer.attention.cache_dim


def head_size(model: Model) -> int:
    """Multiply-adds per position in the head."""
    return model.spec.embed_dim * (model.spec.vocab_size if model.head == "lm" else 1)
