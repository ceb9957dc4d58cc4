"""Every random stream of judging, by name: what it decides, and what it depends on.

All are functions of the seed and of names: what an item shows, a sample's number, a token's
position. So nothing depends on what else is in a batch or in a file, or on what came before.
"""

from __future__ import annotations

import hashlib

import jax
import numpy as np
from jaxtyping import Array, UInt

# The last word of a numpy stream's seed, which keeps streams of the same names apart. It is never
# zero: numpy does not tell trailing zeros apart. 4 is that of the pairs in train/rollout.py.
_ORDERS, _TIES, _REQUESTS, _ANSWERS = 1, 2, 3, 5


def item_key(name: str) -> int:
    """The uint32 that stands for an item in its streams, by its name: an Example's is its digest,
    so that neither its id nor its place in a file matters."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def response_order(seed: int, item: int, sample: int, n: int) -> tuple[int, ...]:
    """The order in which a sample sees n responses, uniform over permutations: by the seed, the
    item and the sample's number."""
    rng = np.random.default_rng([seed, item, sample, _ORDERS])
    return tuple(rng.permutation(n).tolist())


def tie_stream(seed: int, item: int) -> np.random.Generator:
    """What breaks the ties of a verdict: by the seed and the item."""
    return np.random.default_rng([seed, item, 0, _TIES])


def request_seed(seed: int, item: int, sample: int) -> int:
    """The seed that a server is sent with a request for a judgment: by the seed, the item and the
    sample's number."""
    return int(np.random.default_rng([seed, item, sample, _REQUESTS]).integers(2**31))


def answer_seed(seed: int, item: int, sample: int) -> int:
    """The same for a plain answer to a question."""
    return int(np.random.default_rng([seed, item, sample, _ANSWERS]).integers(2**31))


def token_keys(seed: Array, item: UInt[Array, " B"], sample: UInt[Array, "B R"]) -> Array:
    """The keys [B * R] that a sample's tokens are drawn with, folded with the position of each: by
    the seed, the item and the sample's number."""
    root = jax.random.key(seed)
    items = jax.vmap(jax.random.fold_in, (None, 0))(root, item)
    return jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(items, sample).reshape(-1)
