"""Every random stream, by name: what it decides, and what it depends on.

All are functions of the seed and of names: what an item shows, a sample's number, a token's
position. So nothing depends on what else is in a batch or in a file, or on what came before.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, UInt

# The last word of a numpy stream's seed, which keeps streams of the same names apart. It is never
# zero: numpy does not tell trailing zeros apart.
_ORDERS, _TIES, _REQUESTS, _PAIRS, _ANSWERS, _CHOICES, _REAL = 1, 2, 3, 4, 5, 5, 6
_WORLD = {"lesson": 1, "critique": 2, "nothing": 3, "comparison": 4}


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


def pair_stream(seed: int, item: int) -> np.random.Generator:
    """What draws the response that a judge of pairs sees beside the best: by the seed and the
    item."""
    return np.random.default_rng([seed, item, 0, _PAIRS])


def math_stream(seed: int, problem: int) -> np.random.Generator:
    """What pairs the right and the wrong answers to a problem: by the seed and the problem."""
    return np.random.default_rng([seed, problem])


def real_stream(seed: int, item: int) -> np.random.Generator:
    """What draws the items of a real prompt, or the wording of an item's critique: by the seed and
    the prompt or the item."""
    return np.random.default_rng([seed, item, 0, _REAL])


def world_stream(
    seed: int,
    split: int,
    index: int,
    use: Literal["lesson", "critique", "nothing", "comparison"] | None = None,
) -> np.random.Generator:
    """What draws an item of the small world, or for one `use` what is made of it: by the seed, the
    split and the item's number. Each use has a stream of its own, so that a change to one leaves
    the items and the others as they were."""
    return np.random.default_rng((seed, split, index, *([] if use is None else [_WORLD[use]])))


def choice_stream(pool: int, k: int) -> np.random.Generator:
    """What chooses k of a pool of samples to estimate a vote of k: by these two numbers."""
    return np.random.default_rng([pool, k, _CHOICES])


def bootstrap_stream(seed: int) -> np.random.Generator:
    """What redraws the rows of a benchmark: by the seed."""
    return np.random.default_rng(seed)


def stage_seed(seed: int, name: str) -> int:
    """The seed of one part of a training run: stages see the same source in unrelated orders."""
    return item_key(f"{seed}/{name}")


def in_share(name: str, share: float) -> bool:
    """Whether a name falls into a share of all names: by the name."""
    return item_key(name) < share * 2**32


def token_keys(seed: Array, item: UInt[Array, " B"], sample: UInt[Array, "B R"]) -> Array:
    """The keys [B * R] that a sample's tokens are drawn with, folded with the position of each: by
    the seed, the item and the sample's number."""
    root = jax.random.key(seed)
    items = jax.vmap(jax.random.fold_in, (None, 0))(root, item)
    return jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(items, sample).reshape(-1)
