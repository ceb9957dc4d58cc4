"""The settings of GRPO's loss."""

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
