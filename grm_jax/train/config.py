"""What every stage of training shares, in settings; nothing here needs jax."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from grm_jax.objectives.config import RouterLossConfig
from grm_jax.train.compute import ComputeConfig
from grm_jax.train.tracking import TrackingConfig


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


def check_warmup(config: OptimizerConfig, steps: int) -> None:
    """Raises ValueError where the warm-up leaves no step."""
    if config.warmup_steps >= steps:
        raise ValueError(
            f"warmup_steps is {config.warmup_steps}, but the stage has only {steps} steps: warm up "
            "for fewer."
        )


@dataclass(frozen=True)
class CheckpointConfig:
    """A checkpoint `every` so many steps, of which the last `keep` are kept.

    Raises:
        ValueError: a number that is not positive.
    """

    every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError(
                f"checkpoint.every is {self.every} and checkpoint.keep is {self.keep}; "
                "both count something: give 1 or more."
            )


@dataclass(frozen=True)
class AdapterConfig:
    """LoRA: low-rank changes to matrices are trained in the place of all weights.

    W becomes W + alpha / rank B A, and the rest stays as it is in `start`, in the type of its
    files. What is written is an adapter in PEFT's layout.

    Args:
        rank: of the changes; 0: all weights are trained.
        alpha: as above.
        targets: which matrices, by the names of their modules, such as [q_proj, v_proj]; by default
            all projections of attention and of the feed-forward.
        layers: only so many of the last layers, so that the backward pass ends at the first of
            them; by default all.
        weights: "int8": what stays as it is takes a byte a number in the layers' matrices, see
            `models.quantized`; by default the type of its files.

    Raises:
        ValueError: a number outside its range, or int8 without an adapter.
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[str, ...] | None = None
    layers: int | None = None
    weights: Literal["int8"] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.rank == 0:
            raise ValueError(
                "adapter.weights is int8, but adapter.rank is 0, and weights that are trained have "
                "no place in a byte: give a rank, such as 16."
            )
        if self.rank < 0:
            raise ValueError(f"adapter.rank is {self.rank}; give 0 (no adapter) or more.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"adapter.alpha is {self.alpha}; give a finite number above 0.")
        if self.layers is not None and self.layers < 1:
            raise ValueError(f"adapter.layers is {self.layers}; give 1 or more, or null for all.")


@dataclass(frozen=True)
class RunConfig:
    """A training run: where it starts from, and where its results go.

    Args:
        output: the run's folder. The same command continues what is there.
        start: the model that is trained: a model folder, a hub id, a bundled model, or a
            `checkpoints` folder of another run; or "new:SIZE" for random weights (tiny-quarter,
            tiny-half, tiny, small, medium, 2b, 9b, 27b, qwen3-8b and the like).
        tokenizer: a folder or hub id; by default that of `start`.
        templates: a folder of prompt templates; by default that of the model in `start`, or the
            built-in ones.
        chat: arguments of the chat template, such as {enable_thinking: false}; the exported model
            keeps them.
        seed: of initial weights, sampling and shuffling, and of the world's items.
        adapter: trains an adapter for the model in `start`, and not the model.

    Raises:
        ValueError: a seed outside its range, or an adapter for random weights.
    """

    output: str = "runs/train"
    start: str = "tiny-start"
    tokenizer: str | None = None
    templates: str | None = None
    chat: dict[str, Any] | None = None
    seed: int = 0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self) -> None:
        if self.adapter.rank and self.start.startswith("new:"):
            raise ValueError(
                f"start is {self.start}, random weights, and adapter.rank is {self.adapter.rank}: "
                "an adapter is for a model that others have, too: give start, a model folder or a "
                "hub id, or train without an adapter."
            )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}; give 0 to {2**31 - 1}.")


@dataclass(frozen=True)
class ExportConfig:
    """The model folder that is written at the end: its weights' type, and how long judges write.

    Raises:
        ValueError: max_new_tokens is not positive.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"export.max_new_tokens is {self.max_new_tokens}; give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every stage has of its own: how it computes, when it saves, what it exports."""

    router_loss: RouterLossConfig = field(default_factory=RouterLossConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
