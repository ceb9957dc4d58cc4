"""The options of `grm bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# "small" has Gemma-2's shape for a CPU: 6 layers, 512 wide, vocabulary 32,768, f32; the others are
# published sizes in bfloat16, Gemma-2's where no family is named.
Size = Literal[
    "small", "2b", "9b", "27b",
    "gemma3-4b", "gemma3-12b", "gemma3-27b",
    "qwen3-4b", "qwen3-8b", "qwen3-32b",
    "llama-3b", "llama-8b", "llama-70b",
]  # fmt: skip
Stage = Literal["sft", "rft", "grpo"]


@dataclass(frozen=True)
class SamplerBench:
    """Measure decoding: k samples of one prompt, by a model with random weights.

    Args:
        size: small (6 layers, 512 wide, f32), or a published size in bfloat16, for accelerators.
        k: Samples of the one prompt, all in slots at once.
        prompt: Tokens of the prompt.
        new: Tokens drawn per sample; none stops early.
        repeats: How often it is timed; the median counts.
        output: A JSON file for the result.
    """

    size: Size = "small"
    k: int = 8
    prompt: int = 512
    new: int = 64
    repeats: int = 3
    output: str | None = None

    def __post_init__(self) -> None:
        check_positive(self, ("k", "prompt", "new", "repeats"))


@dataclass(frozen=True)
class JudgeBench:
    """Measure judging: rows of the small world, k samples each, from words to scores.

    Args:
        model: "tiny" (bundled), a folder in Hugging Face's layout, or a hub id.
        size: In its place a model of this size with random weights, whose samples have geometric
            lengths, mean 96 and at most 512, behind prompts of 64 to some 2,000 tokens.
        rows: How many rows are judged.
        k: Samples per row.
        repeats: How often it is timed; the median counts.
        output: A JSON file for the result.
    """

    model: str = "tiny"
    size: Size | None = None
    rows: int = 32
    k: int = 8
    repeats: int = 3
    output: str | None = None

    def __post_init__(self) -> None:
        check_positive(self, ("rows", "k", "repeats"))


@dataclass(frozen=True)
class TrainBench:
    """Measure updates: a Gemma-2-shaped model with random weights on random tokens.

    Args:
        size: small (6 layers, 512 wide, f32), or a published size with bfloat16 arithmetic.
        stages: Which updates: sft learns every token, rft the completions, grpo the same with
            advantages and a reference.
        prompts: Prompts of one update.
        group: Completions of each prompt.
        prompt: Tokens of a prompt.
        new: Tokens of a completion.
        remat: Recompute activations in the backward pass to save memory.
        repeats: How often each is timed; the median counts.
        output: A JSON file for the result.
    """

    size: Size = "small"
    stages: tuple[Stage, ...] = ("sft", "rft", "grpo")
    prompts: int = 2
    group: int = 4
    prompt: int = 256
    new: int = 256
    remat: bool = False
    repeats: int = 3
    output: str | None = None

    def __post_init__(self) -> None:
        check_positive(self, ("prompts", "group", "prompt", "new", "repeats"))
        if not self.stages:
            raise ValueError("stages is empty: name sft, rft or grpo.")


def check_positive(options: Any, names: Sequence[str]) -> None:
    """Raises ValueError for a count that is below 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}; give 1 or more.")
