"""The options of `grm aot`, and the programs that it compiles; nothing here needs jax."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Literal

from grm_jax.aot.chips import CHIPS
from grm_jax.aot.topology import Topology
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS, Remat

# The sequences of a run (the paper's), and whether it trains.
PROGRAMS: dict[str, tuple[int, bool]] = {
    "rft-step": (1024, True),
    "grpo-step": (512, True),
    "grpo-score": (512, True),
    "meta-step": (512, True),
    "meta-score": (32, False),
    "prefill": (32, False),
    "decode": (32, False),
}
UNROLLED = ("prefill", "decode")  # compiled layer by layer, so that the time grows with them


@dataclass(frozen=True)
class AotCommand:
    """Compile a program for a TPU slice with the real TPU compiler; no TPU is needed.

    Reports, per chip, the memory it takes and whether it fits, its operations, bytes and
    collectives, and the least time that follows from them.

    Args:
        preset: Size of the model: 2b, 9b or 27b of Gemma-2, gemma3-27b, qwen3-8b, llama-70b and the
            like, tiny, small or medium.
        topology: The slice: a kind of chip (v5e, v5p, v6e, tpu7x) and its grid, as in v5p:4x4x4;
            two such slices are v5p:4x4x4*2.
        program: What to compile: rft-step, grpo-step, grpo-score, meta-step, meta-score,
            prefill, decode.
        sequences: In one run, by default as in the paper; for prefill and decode: k.
        length: Tokens in a sequence; for prefill and decode: in a prompt.
        new: Tokens that decode draws per sample; for GRPO, and for meta-score with a group: tokens
            of a sequence that were drawn.
        group: Samples of one prompt. 0: 4 for GRPO, 1 for meta-score, for prefill and decode all
            there are.
        microbatches: Parts of a training step. 0: as many as leave a chip one sequence at a time,
            or for GRPO one group.
        remat: What a step computes again to save memory: none, attention, dots or full; auto: dots
            if that takes at most 80 % of the memory, otherwise full.
        extrapolate: Compile prefill or decode with few layers, and continue to all of them in a
            straight line: minutes instead of an hour for a model of 61 layers.
        mesh: Devices along data, fsdp and tensor; by default a mesh that divides the model.
        output: A JSON file for the result.
        save: A file for the compiled program, for `grm_jax.aot.saved.load_program` on the slice.
    """

    preset: str = "2b"
    topology: str = "v5e:4x4"
    program: str = "rft-step"
    sequences: int | None = None
    length: int = 4096
    new: int = 1024
    group: int = 0
    microbatches: int = 0
    remat: Remat | Literal["auto"] = "full"
    extrapolate: bool = False
    mesh: MeshConfig | None = None
    output: str | None = None
    save: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; the sizes are {', '.join(PRESETS)}.")
        if self.program not in PROGRAMS:
            raise ValueError(f"program is {self.program!r}; give one of {', '.join(PROGRAMS)}.")
        if self.extrapolate:
            _check_unrolled(self.program)
            if self.save is not None:
                raise ValueError("save: with --extrapolate there is no whole program to save.")

    @property
    def remat_ways(self) -> tuple[Remat, ...]:
        """What to try, the fastest first; only a step keeps anything."""
        if self.remat != "auto":
            return (self.remat,)
        return ("dots", "full") if self.program.endswith("-step") else ("full",)


@dataclass(frozen=True)
class GroupConfig:
    """A group: every preset x topology x program is compiled, with the same work.

    Args:
        sequences, group, length, new, remat, extrapolate: as in `grm aot`.

    Raises:
        ValueError: there is no such preset, topology or program.
    """

    presets: tuple[str, ...]
    topologies: tuple[str, ...]
    programs: tuple[str, ...]
    sequences: int | None = None
    group: int = 0
    length: int = 4096
    new: int = 1024
    remat: Remat | Literal["auto"] = "full"
    extrapolate: bool = False

    def __post_init__(self) -> None:
        for given, known, name in (
            (self.presets, PRESETS, "presets"),
            (self.programs, PROGRAMS, "programs"),
        ):
            if unknown := [x for x in given if x not in known]:
                raise ValueError(f"{name} has {unknown[0]!r}; there are {', '.join(known)}.")
        for topology in self.topologies:
            Topology(topology)
        for program in self.programs if self.extrapolate else ():
            _check_unrolled(program)


def _check_unrolled(program: str) -> None:
    if program not in UNROLLED:
        raise ValueError(
            f"extrapolate is for {' and '.join(UNROLLED)}: {program} compiles its layers once, "
            "however many there are."
        )


@dataclass(frozen=True)
class AotMatrixCommand:
    """Compile every program in a file for every slice in it, one at a time, and plan SPCT.

    Results are kept: if it is stopped, the same command continues where it was.

    Args:
        groups: Presets, topologies and programs; within a group, every combination.
        output: A folder for data.jsonl, a line per program, and index.html, a page.
    """

    groups: tuple[GroupConfig, ...]
    output: str = "runs/aot"

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("groups is empty: name presets, topologies and programs.")


@dataclass(frozen=True)
class VerdictWork:
    """What a verdict is made of.

    Args:
        k: samples of a prompt.
        prompt, new: tokens of a prompt, and of a sample, in the mean. 280 are those of the paper's
            27B model on RewardBench (Figure 7).
        slots: samples that are drawn at a time, of as many prompts as that takes.
        meta_rm: a meta RM of the same size rates the samples.

    Raises:
        ValueError: a number that is not positive.
    """

    k: int = 32
    prompt: int = 1024
    new: int = 280
    slots: int = 128
    meta_rm: bool = False

    def __post_init__(self) -> None:
        for name in ("k", "prompt", "new", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")


@dataclass(frozen=True)
class SPCTWork:
    """How much SPCT does: by default what `configs/train/spct_27b.yaml` asks for.

    Args:
        items: items that RFT and RL begin with (paper: 237K for RL).
        n_plain, n_hinted: judgments per item for RFT. n_filter: those that find easy items for RL,
            made by the model `small`.
        rft_steps, rft_batch, length: of RFT, which learns sequences of `length` tokens.
        rl_steps, rl_batch, group: of RL; a batch counts samples.
        meta_items, n_meta, meta_steps, meta_batch: of the meta RM: items, fresh judgments of each,
            and updates with sequences of `length`.
        rows, k, k_start: of the evaluation: RewardBench's rows, samples of each by what RFT and RL
            have made, and by the model they start from.

    Raises:
        ValueError: a number below zero, or no group.
    """

    items: int = 237_000
    small: str = "2b"
    n_plain: int = 3
    n_hinted: int = 1
    n_filter: int = 3
    rft_steps: int = 900
    rft_batch: int = 1024
    length: int = 4096
    rl_steps: int = 900
    rl_batch: int = 512
    group: int = 4
    meta_items: int = 64_000
    n_meta: int = 4
    meta_steps: int = 500
    meta_batch: int = 512
    rows: int = 2985
    k: int = 32
    k_start: int = 8

    def __post_init__(self) -> None:
        if self.small not in PRESETS:
            raise ValueError(f"small is {self.small!r}; the sizes are {', '.join(PRESETS)}.")
        for name, value in asdict(self).items():
            least = 1 if name in ("group", "length", "k", "k_start") else 0
            if name != "small" and value < least:
                raise ValueError(f"{name} is {value}; give {least} or more.")


@dataclass(frozen=True)
class AotCostCommand:
    """What verdicts and SPCT cost at least, in chip-hours and in money, by the model's sizes.

    Nothing is compiled, so it is answered at once, for GPUs too. Arithmetic and memory go at the
    vendor's peaks, times `efficiency`.

    Args:
        preset: Size of the model, as for `grm aot`.
        chip: v5e, v5p, v6e, tpu7x; a100, h100, h200 or b200.
        price: Of a chip for an hour, in any currency.
        efficiency: The share of the peaks that a run reaches. On an H200 this code has reached 27
            to 43 % (docs/results.md).
        verdict: What a verdict is made of.
        spct: How much SPCT does.
        output: A JSON file for the result.
    """

    preset: str = "27b"
    chip: str = "v5p"
    price: float | None = None
    efficiency: float = 0.35
    verdict: VerdictWork = field(default_factory=VerdictWork)
    spct: SPCTWork = field(default_factory=SPCTWork)
    output: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; the sizes are {', '.join(PRESETS)}.")
        if self.chip not in CHIPS:
            raise ValueError(f"chip is {self.chip!r}; the chips are {', '.join(CHIPS)}.")
        if not 0 < self.efficiency <= 1:
            raise ValueError(f"efficiency is {self.efficiency}; give more than 0 and at most 1.")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise ValueError(f"price is {self.price}; give 0 or more.")
