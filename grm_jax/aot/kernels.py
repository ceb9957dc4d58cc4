"""What a kernel of `models.splash` computes, read from its call in a compiled program.

The compiler writes no operations into such a call. What it does write are the shapes: of the
queries, and of the grid of blocks that the kernel goes through.
"""

from __future__ import annotations

import math
import re

from grm_jax.models.splash import PAIRS

# Products of a block of queries with one of keys: logits and output; logits, their gradient and
# that of the queries; the same and the gradients of keys and values.
PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}


def splash_flops(
    name: str, grid: tuple[int, ...], queries: tuple[int, ...], scope: str = ""
) -> float:
    """Operations of one call, two per multiply-add.

    Args:
        name: of the call, as splash_mha_fwd_segmented.
        grid: 1, blocks of queries, blocks of keys that one of them meets at most (dkv: the other
            way round). Blocks are square and the mask is causal, so the first block of queries
            meets one block of keys, the second at most two, and so on.
        queries: rows (unless it is one), heads, positions, head size.
        scope: where the call stands in the program. Of rows that are groups it says the pairs of
            query and key that are computed, which no shape does.

    Raises:
        ValueError: another kernel.
    """
    found = re.match(r"splash_mha_(fwd|dq|dkv)_", name)
    if found is None or len(grid) != 3 or len(queries) < 3:
        raise ValueError(
            f"{name} {list(grid)} {list(queries)} is no kernel of grm_jax.models.splash: nothing "
            "says how much it computes."
        )
    blocks, width = (grid[2], grid[1]) if found[1] == "dkv" else grid[1:]
    met = sum(min(n + 1, width) for n in range(blocks))
    *rows_and_heads, length, size = queries
    said = re.search(rf"{PAIRS}(\d+)", scope)
    pairs = int(said[1]) if said else 0
    pairs = pairs or met * (length / blocks) ** 2
    return 2.0 * PRODUCTS[found[1]] * math.prod(rows_and_heads) * pairs * size
