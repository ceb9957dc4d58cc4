"""A program to compile, and how much one run of it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from grm_jax.aot.kernels import Pairs, Routed
from grm_jax.models.config import Remat
from grm_jax.models.splash import Group

GROUP = 4  # G of the paper


@dataclass(frozen=True)
class Work:
    """How much one run of a program does, over all devices.

    Args:
        sequences: in one run; for prefill and decode: samples drawn at once.
        length: tokens in a sequence; for prefill and decode: in a prompt.
        new: tokens that decode draws per sample. For GRPO, and for meta-score in groups: tokens of
            a sequence that follow the prompt, at most half of it.
        group: samples of one prompt. 0: 4 for GRPO, as in the paper; 1 for meta-score; for prefill
            and decode all there are.
        microbatches: parts of a training step. 0: as many as leave a device one row at a time (for
            GRPO, one prompt with its sequences).
        remat: what a step computes again to save memory, see `ComputeConfig`.
    """

    sequences: int
    length: int = 4096
    new: int = 1024
    group: int = 0
    microbatches: int = 0
    remat: Remat = "full"

    def __post_init__(self) -> None:
        for name in ("sequences", "length", "new"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        for name in ("group", "microbatches"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 (automatic) or more.")

    def grouped(self) -> tuple[int, int, Group]:
        """The same work in groups: prompts, sequences per prompt, and the tokens of both parts.

        Raises:
            ValueError: the sequences do not divide into groups.
        """
        group = self.group or GROUP
        if self.sequences % group:
            raise ValueError(
                f"sequences is {self.sequences}, in groups of {group}: give a multiple of {group}."
            )
        new = min(self.new, self.length // 2)
        return self.sequences // group, group, Group(self.length - new, new)


@dataclass(frozen=True)
class Program:
    """A program to compile, and how much work it is.

    Attributes:
        lower: traces it for the devices of `mesh`, which must be set (`jax.set_mesh`); the result
            has `.compile()`.
        tokens: tokens that one run trains on, scores or draws, over all devices.
        flops: operations of one run over all devices, counted from the model's sizes (`flops`).
        useful: those of them that are not there only to save memory; 0: all.
        trips: iterations of a loop whose number the program itself does not say.
        resident: bytes per device that other arrays take while it runs.
        pairs: where rows are groups, the pairs of query and key in a row, by attention kernel.
        routed: what a device does of products with experts.
    """

    lower: Callable[[], Any]
    mesh: Mesh
    tokens: int
    flops: float
    useful: float = 0.0
    trips: int = 1
    resident: int = 0
    pairs: Pairs | None = None
    routed: Routed | None = None


def lowered(function: Any, *arguments: Any) -> Callable[[], Any]:
    """For `Program.lower`: traces a jitted function on its abstract arguments."""
    return lambda: function.lower(*arguments)
