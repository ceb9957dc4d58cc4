"""GRPO, in settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from grm_jax.data.config import ItemsConfig
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.kinds import Learns
from grm_jax.judging.reward import REWARDS
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.sampling.strategy import Strategy
from grm_jax.train.config import OptimizerConfig, TrainingConfig, check_warmup


@dataclass(frozen=True)
class FilterConfig:
    """Items that a reference judge gets right `n` times of `n` are left out (paper: 3 of 3).

    Args:
        judge: the reference judge; by default the model that the stage starts from.
        n: judgments per item; 0 leaves nothing out.

    Raises:
        ValueError: n is negative.
    """

    judge: JudgeConfig = field(default_factory=JudgeConfig)
    n: int = 3

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"filter.n is {self.n}; give 0 (leave nothing out) or more.")


@dataclass(frozen=True)
class GRPOConfig(TrainingConfig):
    """GRPO. What the paper leaves open has the default of GRPO's own paper. The start model is the
    frozen reference of the KL term, too.

    Args:
        items: labelled items to judge. filter: which of them are too easy.
        kind: what is trained: "grm", or "judge" (LLM-as-a-Judge: rewarded if it chooses the
            labelled response); by default what `start` is. A judge sees pairs alone, as in the
            paper: of an item with more responses the best and another one (drawn by the seed);
            single responses are left out.
        reward: of a judgment; "rule", the paper's: +1 if it is right, -1 if not (equation 11).
        group: judgments of one prompt, G (paper: 4).
        per_step: rollouts per step (paper: 512), counted as `per_step_unit` says, on which the
            paper is silent: "outputs" (per_step / group prompts, as in GRPO's paper) or "prompts".
        steps: rollouts, each followed by `iterations` updates (1: on-policy).
        overlap: draw each step's rollouts with the weights that the step before began with, while
            that one updates them: one step off-policy, which the ratio accounts for.
        loss: beta, clipping, KL estimator, standard deviation.
        strategy: how the policy's tokens are drawn. The policy, and the reference, are the models
            at its temperature; top_k and top_p leave tokens out of the draws alone.
        max_new_tokens: room for one judgment; by default what the model folder says.
        slots: samples decoded at once.
        reference_dtype: what the reference's weights are stored in.
        samples_every: steps between two batches of rollouts that are kept to be read.

    Raises:
        ValueError: a value outside its range.
    """

    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    filter: FilterConfig = field(default_factory=FilterConfig)
    kind: Learns | None = None
    reward: str = "rule"
    group: int = 4
    per_step: int = 512
    per_step_unit: Literal["outputs", "prompts"] = "outputs"
    steps: int = 900
    iterations: int = 1
    overlap: bool = False
    loss: GRPOLossConfig = field(default_factory=GRPOLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    strategy: Strategy = field(default_factory=Strategy)
    max_new_tokens: int | None = None
    slots: int = 64
    reference_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    samples_every: int = 10

    def __post_init__(self) -> None:
        for name in ("group", "per_step", "steps", "iterations", "samples_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        if self.reward not in REWARDS:
            raise ValueError(f"reward is {self.reward!r}; give one of {', '.join(REWARDS)}.")
        if self.per_step_unit == "outputs" and self.per_step % self.group:
            raise ValueError(
                f"per_step is {self.per_step} outputs in groups of {self.group}: give a multiple "
                "of it."
            )
        if self.strategy.temperature == 0:
            raise ValueError("strategy.temperature is 0: all of a group would be equal.")
        check_warmup(self.optimizer, self.steps * self.iterations)

    @property
    def on_policy(self) -> bool:
        """Whether every update is made with the weights that wrote its batch."""
        return self.iterations == 1 and not self.overlap

    @property
    def prompts(self) -> int:
        """Prompts per step."""
        return self.per_step // self.group if self.per_step_unit == "outputs" else self.per_step
