"""The options of `grm aot`, and the programs that it compiles; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass

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
        remat: What a step computes again to save memory: none, attention, dots or full.
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
    remat: Remat = "full"
    mesh: MeshConfig | None = None
    output: str | None = None
    save: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; the sizes are {', '.join(PRESETS)}.")
        if self.program not in PROGRAMS:
            raise ValueError(f"program is {self.program!r}; give one of {', '.join(PROGRAMS)}.")


@dataclass(frozen=True)
class GroupConfig:
    """A group: every preset x topology x program is compiled, with the same work.

    Args:
        sequences, group, length, new: as in `grm aot`.

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

    def __post_init__(self) -> None:
        for given, known, name in (
            (self.presets, PRESETS, "presets"),
            (self.programs, PROGRAMS, "programs"),
        ):
            if unknown := [x for x in given if x not in known]:
                raise ValueError(f"{name} has {unknown[0]!r}; there are {', '.join(known)}.")
        for topology in self.topologies:
            Topology(topology)


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
