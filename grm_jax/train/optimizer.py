"""AdamW with clipping and a learning-rate schedule, from a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) after clipping by the global norm.

    The rate rises over `warmup_steps` and then stays (`constant`) or falls along half a cosine
    to `final_fraction` of its peak at the stage's last step. `clip_norm` None does not clip.

    Raises:
        ValueError: a number outside its range.
    """

    learning_rate: float = 1e-5
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8

    def __post_init__(self) -> None:
        # The comparisons are so that a NaN fails them.
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate is {self.learning_rate}; give a finite number above 0."
            )
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; give 0 (none) or more.")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm is {self.clip_norm}; give more than 0, or null for none.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; give 0 (none) or more.")
        if not 0 < self.eps < math.inf:
            raise ValueError(f"eps is {self.eps}; give a finite number above 0.")
        for name, value in (("b1", self.b1), ("b2", self.b2)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; give 0 or more, and less than 1.")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction is {self.final_fraction}; give 0 to 1.")


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate of update i, 0 <= i < steps.

    Raises:
        ValueError: the warm-up leaves no step.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if warmup >= steps:
        raise ValueError(
            f"warmup_steps is {warmup}, but the stage has only {steps} steps: warm up for fewer."
        )
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
            decide: two or more besides the stack of layer pairs.
    """
    matrices = jax.tree.map(
        lambda names: sum(name != "pairs" for name in names) >= 2,
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
