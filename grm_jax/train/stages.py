"""The stages of training, in settings; nothing here needs jax."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from grm_jax.data.config import BatchConfig, ItemsConfig, SourceConfig
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.kinds import Learns
from grm_jax.judging.reward import REWARDS
from grm_jax.objectives.config import GRPOLossConfig
from grm_jax.sampling.strategy import Strategy
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
