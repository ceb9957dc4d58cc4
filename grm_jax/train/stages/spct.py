"""The whole of SPCT, in settings: its stages, and how they are measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from grm_jax.data.config import ItemsConfig
from grm_jax.sampling.strategy import Strategy
from grm_jax.train.stages.grpo import GRPOConfig
from grm_jax.train.stages.rft import RFTConfig
from grm_jax.train.stages.scorer import MetaRMConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """How every model of the pipeline is measured.

    Args:
        items: labelled items that no stage learned from.
        k: samples per item of the trained models; accuracies are for 1, 2, 4 .. k.
        k_start: samples per item of the start model.
        strategy: how tokens are drawn (temperature 1, as in training).
        slots: samples decoded at once.

    Raises:
        ValueError: a count that is not positive.
    """

    items: tuple[ItemsConfig, ...] = (ItemsConfig(split="heldout", limit=2000),)
    k: int = 32
    k_start: int = 8
    strategy: Strategy = field(default_factory=Strategy)
    slots: int = 256

    def __post_init__(self) -> None:
        for name in ("k", "k_start", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")


@dataclass(frozen=True)
class SPCTConfig:
    """The whole of SPCT. `null` for a stage leaves it out (an ablation).

    Each stage has a folder in `output` and starts from the model of the one before. The meta RM
    also learns from RFT's plain judgments.
    """

    rft: RFTConfig | None = field(default_factory=RFTConfig)
    grpo: GRPOConfig | None = field(default_factory=GRPOConfig)
    meta_rm: MetaRMConfig | None = field(default_factory=MetaRMConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
