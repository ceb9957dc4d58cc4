"""What is kept of the forward pass for the backward pass, and what is made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from grm_jax.models.config import Remat

# The name under which splash's outputs can be kept, so that its kernel need not run again.
ATTENTION = "attention"


def rematerialized(body: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """The body of a scan over layers, which keeps what the policy says for its gradient.

    "dots" keeps the products with weight matrices, and what splash gives: all that is made again
    is cheap elementwise work and, without splash, attention. "full" keeps the body's input alone.
    "none" and "attention" keep everything; attention itself is wrapped where it is made.
    """
    if remat in ("none", "attention"):
        return body
    policy = None
    if remat == "dots":
        policies = jax.checkpoint_policies
        policy = policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(ATTENTION)
        )
    return jax.checkpoint(body, prevent_cse=False, policy=policy)
