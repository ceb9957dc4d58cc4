"""Weights in int8, by qwix: symmetric, with one scale for each output channel of a matrix.

A model that is only read from needs the precision of its weights less than their place in memory:
w is kept as q, an int8, and s = max |w| / 127.5 of its channel, in float32. What meets the
activations is q s, which is made layer by layer: of experts all of a layer's, whichever are chosen.
Norms, biases, routers, the embedding and any head stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

# The dimensions that each matrix, with those of all periods in one array [P, ..], is summed over.
# A router is none of them: a choice of experts hangs on small differences.
_SUMMED = {
    **dict.fromkeys("qkv", (2,)),
    "o": (1, 2),
    **{f"{of}{name}": (1,) for of in ("", "shared_") for name in ("gate", "up", "down")},
    **{f"experts_{name}": (2,) for name in ("gate", "up", "down")},
    # Of latent attention. kv_b [P, N, X, C] is also read the other way, by its rows X.
    "q_a": (1,),
    "q_b": (2,),
    "kv_a": (1,),
    "kv_b": (3,),
}


def quantized(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with the matrices of their layers in int8, as `qwix.QArray`s.

    Each matrix that is given is deleted as soon as its own is there, so that no more than one is in
    memory twice.

    Raises:
        ValueError: qwix is missing.
    """
    try:
        import qwix
    except ImportError:
        raise ValueError(
            "weights in int8 take qwix, which is not installed: pip install 'grm-jax[int8]'."
        ) from None

    @partial(jax.jit, static_argnums=1)
    def in_int8(weight: Any, kept: tuple[int, ...]) -> Any:
        return qwix.quantize(weight.astype(jnp.float32), jnp.int8, channelwise_axes=kept)

    def part(name: str, weight: Any) -> Any:
        if name not in _SUMMED:
            return weight
        kept = tuple(dim for dim in range(weight.ndim) if dim not in _SUMMED[name])
        made = jax.block_until_ready(in_int8(weight, kept))
        weight.delete()
        return made

    def segment(layers: dict[str, Any]) -> dict[str, Any]:
        return {
            layer: {name: part(name, weight) for name, weight in weights.items()}
            for layer, weights in layers.items()
        }

    return {
        name: segment(kept) if isinstance(kept, dict) else kept for name, kept in params.items()
    }


def is_quantized(leaf: Any) -> bool:
    """Whether it is one of `quantized`'s."""
    return hasattr(leaf, "qvalue")


def plain(leaf: Any) -> Any:
    """q s in float32 of a matrix in int8; anything else is given back."""
    if not is_quantized(leaf):
        return leaf
    import qwix

    return qwix.dequantize(leaf)


def dequantized(weights: dict[str, Any]) -> dict[str, Any]:
    """Weights with q s in float32 for each matrix in int8; the others are the same arrays."""
    return jax.tree.map(plain, weights, is_leaf=is_quantized)
