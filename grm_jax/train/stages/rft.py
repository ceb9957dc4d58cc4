"""Rejective fine-tuning, in settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from grm_jax.data.config import BatchConfig, ItemsConfig, SourceConfig
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.kinds import Learns
from grm_jax.train.config import OptimizerConfig, TrainingConfig, check_warmup


@dataclass(frozen=True)
class RFTConfig(TrainingConfig):
    """Rejective fine-tuning.

    Args:
        items: labelled items to judge.
        kind: what is trained: "grm", or "judge" (LLM-as-a-Judge: the number of the best response,
            right if it is the labelled one; single responses are left out); by default what
            `start` is. Judgments are asked for in the same way.
        judge: who writes the plain judgments (the paper took another, pretrained GRM).
        hinted_judge: who writes the hinted ones; by default the same.
        n_plain: plain judgments per item, N_RFT (paper: 3; 0: none).
        n_hinted: hinted judgments per item (paper: 1; 0: none).
        principles: False asks for none, and strips them from what is learned. Prompts without any
            are in no_principles/ beside the start's own ones, or built in.
        general: general instruction data; weights are relative to each other.
        general_share: its share of all examples (paper: 1070K of 1256K; 0: none).
        steps: updates. batch: its shape.
    """

    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    kind: Learns | None = None
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    hinted_judge: JudgeConfig | None = None
    n_plain: int = 3
    n_hinted: int = 1
    principles: bool = True
    general: tuple[SourceConfig, ...] = ()
    general_share: float = 0.0
    steps: int = 900
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.n_plain < 0 or self.n_hinted < 0:
            raise ValueError(
                f"n_plain is {self.n_plain} and n_hinted is {self.n_hinted}; give 0 (none) or more."
            )
        if not 0 <= self.general_share <= 1:
            raise ValueError(f"general_share is {self.general_share}; it is a share: give 0 to 1.")
        if self.general_share and not self.general:
            raise ValueError(f"general_share is {self.general_share}, but general names no data.")
        if not self.n_plain + self.n_hinted and not self.general_share:
            raise ValueError("no plain and no hinted judgments, and general_share is 0: no data.")
        check_warmup(self.optimizer, self.steps)
