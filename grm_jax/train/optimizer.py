"""AdamW with clipping and a learning-rate schedule, from a few numbers."""

from __future__ import annotations

from typing import Any

import jax
import optax

from grm_jax.sharding import STACK
from grm_jax.train.config import OptimizerConfig, check_warmup


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate of update i, 0 <= i < steps.

    Raises:
        ValueError: no step, or the warm-up leaves none.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; give 1 or more.")
    check_warmup(config, steps)
    peak, warmup = config.learning_rate, config.warmup_steps
    after = (
        optax.constant_schedule(peak)
        if config.schedule == "constant"
        else optax.cosine_decay_schedule(peak, steps - warmup, config.final_fraction)
    )
    if not warmup:
        return after
    # From peak / (warmup + 1), not from 0: an update of size 0 would be a step thrown away.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule, axes: Any
) -> optax.GradientTransformation:
    """Clipping, then AdamW whose decay touches matrices only.

    Args:
        axes: `model.axes()`. A stacked norm has two dimensions and is no matrix, so the names
            decide: two or more besides the stack of layers.
    """
    matrices = jax.tree.map(
        lambda names: sum(name != STACK for name in names) >= 2,
        axes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    adamw = optax.adamw(
        schedule,
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=matrices,
    )
    if config.clip_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)
