"""The settings of GRPO's loss, and of those that keep experts in use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GRPOLossConfig:
    """The numbers of the objective; the paper gives only `beta`, the rest is GRPO's own default.

    Args:
        beta: weight of the KL term (paper: 0.08 for 27B, 0.002 for 16B).
        clip_low, clip_high: the ratio counts within 1 - clip_low .. 1 + clip_high.
        kl: estimator of KL(policy || reference) per token, with d = log reference - log policy:
            k3 = exp(d) - d - 1 (GRPO's own, never negative), k2 = d^2 / 2, k1 = -d.
        advantage_std: divide the centred rewards of a group by their "population" or "sample"
            standard deviation, or by nothing ("none").

    Raises:
        ValueError: a number outside its range.
    """

    beta: float = 0.08
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: Literal["k1", "k2", "k3"] = "k3"
    advantage_std: Literal["population", "sample", "none"] = "population"

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; give 0 (no KL term) or more.")
        if not 0 < self.clip_low <= 1 or not self.clip_high > 0:
            raise ValueError(
                f"clip_low is {self.clip_low} and clip_high is {self.clip_high}: both must be "
                "more than 0, and clip_low at most 1."
            )


@dataclass(frozen=True)
class RouterLossConfig:
    """Losses of the routers of models with experts (DeepSeek), added to the stage's own. Both are
    of each layer and each row of a batch; the layers' are summed.

    Args:
        balance: weight of the load-balance loss, which is 1 where a layer's experts are used
            evenly (DeepSeek-V2: 0.003; V3: 0.0001).
        z: weight of the z-loss, the square of the log of the sum of exponentials of a router's
            logits (ST-MoE: 0.001).

    Raises:
        ValueError: a weight that is negative or not finite.
    """

    balance: float = 0.0
    z: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("balance", self.balance), ("z", self.z)):
            if not 0 <= value < math.inf:
                raise ValueError(f"router_loss.{name} is {value}; give 0 (none) or more.")

    @property
    def wanted(self) -> bool:
        """Whether either has a weight."""
        return bool(self.balance or self.z)
