"""Supervised fine-tuning, in settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from grm_jax.data.config import BatchConfig, SourceConfig
from grm_jax.judging.kinds import Learns
from grm_jax.train.config import OptimizerConfig, TrainingConfig, check_warmup


@dataclass(frozen=True)
class StageConfig:
    """One pass of training: a number of updates on a mix of sources, with its own optimiser.

    Raises:
        ValueError: no step, or no source.
    """

    steps: int
    data: tuple[SourceConfig, ...] = (SourceConfig(),)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty: name at least one source.")
        check_warmup(self.optimizer, self.steps)


@dataclass(frozen=True)
class SFTConfig(TrainingConfig):
    """Supervised fine-tuning in one or more stages.

    Args:
        stages: by name, one after another; each has its folder in `output`.
        kind: the kind of judge that the model folder is then used as; by default that of `start`.
        batch: its shape, over all devices.
        compute: devices, memory and precision.

    Raises:
        ValueError: a value outside its range.
    """

    stages: dict[str, StageConfig]
    kind: Learns | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty: name at least one, such as stages.sft.steps.")
        for name in self.stages:
            if not re.fullmatch(r"[\w-]+", name) or name == "model":
                raise ValueError(
                    f"the stage name {name!r} becomes a folder beside `model`: use letters, "
                    "digits, _ and -."
                )
