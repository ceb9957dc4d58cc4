"""The options of `grm bench`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchCommand:
    """Measure sampling: seconds for k samples of one prompt, as ratios to the fastest way.

    The model is Gemma-2-shaped with random weights (6 layers, 512 wide, vocabulary 32,000, f32).

    Args:
        k: Samples of the one prompt.
        prompt: Tokens of the prompt.
        new: Tokens drawn per sample (none stops early).
        repeats: How often each way is timed, in turns; the median counts.
        output: A JSON file for the result.
    """

    k: int = 8
    prompt: int = 512
    new: int = 64
    repeats: int = 3
    output: str | None = None

    def __post_init__(self) -> None:
        for name in ("k", "prompt", "new", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
