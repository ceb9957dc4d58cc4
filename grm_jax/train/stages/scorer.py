"""Training of models with a scalar head, the meta RM and scalar judges, in settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from grm_jax.data.config import BatchConfig, ItemsConfig
from grm_jax.judging.config import JudgeConfig
from grm_jax.sampling.strategy import Strategy
from grm_jax.train.config import OptimizerConfig, TrainingConfig, check_warmup


@dataclass(frozen=True)
class ScorerConfig(TrainingConfig):
    """Training of a model with a scalar head.

    Args:
        grow: pairs of layers added on top of the trunk, which begin almost as the identity. Where
            the last layer predicts the next token, none is left to compare it with what came.
        heldout_share: the share of the items kept out of training, to measure on.
        steps: updates. batch: its shape; `pack` puts several judgments or pairs into a sequence.

    Raises:
        ValueError: a value outside its range.
    """

    grow: int = 0
    heldout_share: float = 0.1
    steps: int = 500
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.grow < 0:
            raise ValueError(f"grow is {self.grow}; give 0 (the trunk as it is) or more pairs.")
        if not 0 < self.heldout_share < 1:
            raise ValueError(
                f"heldout_share is {self.heldout_share}; some items must be kept out, and some "
                "learned from: give more than 0 and less than 1."
            )
        check_warmup(self.optimizer, self.steps)


@dataclass(frozen=True)
class MetaRMConfig(ScorerConfig):
    """Training of the meta RM, on the trunk of the start model.

    Args:
        samples: files of judgments that are there already (RFT's samples_plain.jsonl).
        items: labelled items for fresh judgments, `n` each by `judge`.
        judge: the GRM that it will guide; by default the model in `start`.
        n: fresh judgments per item (0: none).
        supervise: "last", only the score at the judgment's last token, which is the one used; or
            "all", the scores at all its tokens (as the verifiers of Cobbe et al., arXiv 2110.14168:
            many more positions at which an error can be noticed).
        balance: "natural", right and wrong judgments as they come; or "equal", as many of each.

    Raises:
        ValueError: a value outside its range.
    """

    samples: tuple[str, ...] = ()
    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    n: int = 4
    supervise: Literal["last", "all"] = "last"
    balance: Literal["natural", "equal"] = "natural"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 0 or (not self.n and not self.samples):
            raise ValueError(
                f"n is {self.n} and samples names {len(self.samples)} files: the meta RM learns "
                "from judgments: give fresh ones, files, or both."
            )


@dataclass(frozen=True)
class ScalarConfig(ScorerConfig):
    """Training of a scalar judge, on the trunk of the start model.

    Args:
        objective: "bt", a reward for each response alone; "pair", a margin for two responses read
            together; "cloud", a reward for each response with a critique of it.
        items: labelled items; those with a single response make no pair and are left out.
        critic: of cloud: the model folder that writes critiques (`grm train sft` makes one); by
            default the model in `start`. It is copied into the written folder.
        n: of cloud: critiques of each response to learn from.
        strategy: of cloud: how critiques are drawn.
        k: judgments of each held-out item to measure with: opposite orders of pair, critiques of
            cloud; those of bt are all alike.
        slots: sequences sampled, or scored, at once.
        batch: its shape. A pair of bt and cloud has to fit into one sequence.

    Raises:
        ValueError: a value outside its range, or a critic where there is no critique.
    """

    objective: Literal["bt", "pair", "cloud"] = "bt"
    items: tuple[ItemsConfig, ...] = (ItemsConfig(limit=1000),)
    critic: str | None = None
    n: int = 1
    strategy: Strategy = field(default_factory=Strategy)
    k: int = 1
    slots: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n", "k", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        if self.critic is not None and self.objective != "cloud":
            raise ValueError(
                f"critic is {self.critic}, but objective is {self.objective}, which reads no "
                "critique: leave it out, or take cloud."
            )
