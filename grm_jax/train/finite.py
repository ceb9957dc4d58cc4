"""Refuses weights that are not finite, before they are trained on and before they are written."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def check_finite(params: Any, whose: str) -> None:
    """Refuses weights that hold NaN or infinity.

    Args:
        whose: begins the sentence.

    Raises:
        ValueError: names the weights.
    """
    finite = jax.device_get(_finite(params))
    bad = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, good in jax.tree_util.tree_leaves_with_path(finite)
        if not good
    ]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(
            f"{whose} holds weights that are not finite (NaN or infinity), in "
            f"{', '.join(bad[:5])}{more}."
        )


@jax.jit
def _finite(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.isfinite(p).all(), params)
