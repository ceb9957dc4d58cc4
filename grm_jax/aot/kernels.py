"""The operations of kernels, from their calls in a compiled program, which do not say how many.

Of a kernel of `models.splash` its shapes do: those of the queries, and of the grid of blocks that
it iterates over. Of those of `models.grouped` they do if tokens are known to be spread evenly over
experts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from grm_jax.models.model import Model
from grm_jax.models.spec import Experts
from grm_jax.models.splash import LANES, Group, GroupMask, block_size

# Products of a block of queries with a block of keys, as long as a head's queries and keys are, and
# as its values are. fwd: the logits; the output. dq: the logits, the gradient of the queries; that
# of the logits. dkv: the logits, the gradient of the keys; those of the logits and of the values.
PRODUCTS = {"fwd": (1, 1), "dq": (2, 1), "dkv": (2, 2)}


# Pairs of query and key that a kernel computes in a row, by phase and grid.
Pairs = Mapping[tuple[str, tuple[int, ...]], int]


def group_pairs(length: int, group: Group, windows: tuple[int | None, ...]) -> Pairs:
    """The pairs of all kernels for rows that are groups: the shapes of their calls do not say.

    windows: of the layers; None sees everything.
    """
    length += -length % LANES
    block, pairs = block_size(length), {}
    blocks = [slice(first, first + block) for first in range(0, length, block)]
    for window in sorted(set(windows), key=lambda window: window or math.inf):  # None last
        mask = GroupMask(length, group, window)
        met = np.array([[mask[query, key].any() for key in blocks] for query in blocks])
        rows = (1, len(blocks), int(met.sum(1).max()))
        columns = (1, int(met.sum(0).max()), len(blocks))
        for phase, grid in (("fwd", rows), ("dq", rows), ("dkv", columns)):
            pairs[phase, grid] = int(met.sum()) * block**2
    return pairs


def splash_flops(
    name: str,
    grid: tuple[int, ...],
    queries: tuple[int, ...],
    pairs: Pairs | None = None,
    values: int | None = None,
) -> float:
    """Operations of one call, two per multiply-add.

    Args:
        name: of the call, such as splash_mha_fwd_segmented.
        grid: 1, the blocks of queries, and the most blocks of keys that one of them meets (for dkv
            the other way round). Blocks are square and the mask is causal, so the first block of
            queries meets one block of keys, the second at most two, and so on.
        queries: rows (unless there is one), heads, positions, head size.
        pairs: for rows that are not simply causal.
        values: numbers of a head's values, where they are not as many as its queries.

    Raises:
        ValueError: another kernel.
    """
    found = re.match(r"splash_mha_(fwd|dq|dkv)_", name)
    if found is None or len(grid) != 3 or len(queries) < 3:
        raise ValueError(
            f"{name} {list(grid)} {list(queries)} is not a kernel of grm_jax.models.splash: how "
            "much it computes is not known."
        )
    blocks, width = (grid[2], grid[1]) if found[1] == "dkv" else grid[1:]
    met = sum(min(n + 1, width) for n in range(blocks))
    *rows_and_heads, length, size = queries
    computed = (pairs or {}).get((found[1], grid), met * (length / blocks) ** 2)
    of_keys, of_values = PRODUCTS[found[1]]
    numbers = of_keys * size + of_values * (size if values is None else values)
    return 2.0 * math.prod(rows_and_heads) * computed * numbers


@dataclass(frozen=True)
class Routed:
    """What a device does of a product of rows with experts, if all are chosen equally often.

    Attributes:
        rows: the share of the rows that are for its own experts.
        read: how many of its own experts any row is for; None: all that the product is given,
            which may be those of all layers.
    """

    rows: float = 1.0
    read: float | None = None

    def flops(self, rows: tuple[int, ...], experts: tuple[int, ...]) -> float:
        """Operations for rows [M, D] and experts [E, D, F] or [E, F, D]."""
        return 2.0 * self.rows * rows[0] * math.prod(experts[1:])

    def share(self, experts: tuple[int, ...]) -> float:
        """Of the experts [E, ..] that a product is given, the share that it reads."""
        return 1.0 if self.read is None else self.read / experts[0]


def routed(model: Model, devices: int, tokens: int) -> Routed:
    """The same for so many tokens, and experts that so many devices share."""
    mixtures = (layer.mlp for layer in model.spec.layers if isinstance(layer.mlp, Experts))
    if (mlp := next(mixtures, None)) is None:
        return Routed()
    met = mlp.count * (1 - (1 - mlp.chosen / mlp.count) ** tokens)
    return Routed(1 / devices, met / devices)
