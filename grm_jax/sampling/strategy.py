"""How tokens are drawn, in settings: temperature, top-k, top-p, greedy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strategy:
    """Sampling settings. temperature 0 is greedy; top_k 0 and top_p 1 keep the whole vocabulary.

    Raises:
        ValueError: a setting out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"temperature is {self.temperature}; give 0 (greedy) up to 100.")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; give 0 (off) or a positive count.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; give a number above 0, up to 1 (off).")

    def traced(self) -> tuple[np.float32, np.int32, np.float32]:
        """(temperature, top_k, top_p) as arguments of a program, where a new value does not
        recompile."""
        return np.float32(self.temperature), np.int32(self.top_k), np.float32(self.top_p)
