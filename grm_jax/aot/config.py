"""The options of `grm aot`, and what it compiles; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass

from grm_jax.aot.topology import Topology
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS, Remat

# Each program with the sequences of one run, by default the paper's, and whether it trains.
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

    Says per chip what memory it takes and whether it fits, its operations, bytes and collectives,
    and the best time that follows.

    Args:
        preset: Size of the model: 2b, 9b or 27b of Gemma-2, gemma3-27b, qwen3-8b, llama-70b and the
            like, tiny, small or medium.
        topology: The slice: a kind of chip (v5e, v5p, v6e, tpu7x) and its grid, as in v5p:4x4x4;
            two such slices are v5p:4x4x4*2.
        program: What to compile: rft-step, grpo-step, grpo-score, meta-step, meta-score,
            prefill, decode.
        sequences: Of one run, by default the paper's; of prefill and decode: k.
        length: Tokens of a sequence; of prefill and decode: of a prompt.
        new: Tokens that decode draws per sample; of GRPO, and of
            meta-score with a group: so many of a sequence were drawn.
        group: Samples of one prompt; 0: 4 of GRPO, 1 of meta-score; of prefill and decode as many
            as there are.
        microbatches: Parts of a training step; 0: so many that a chip has one sequence at a time,
            of GRPO one group.
        remat: What a step computes again to save memory: none, attention, dots or full.
        mesh: Devices along data, fsdp and tensor; by default what divides the model.
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
    """Every preset x topology x program of a group is compiled, with the same work.

    Args:
        sequences, group, length, new: as of `grm aot`.

    Raises:
        ValueError: a preset, topology or program that is none.
    """

    presets: tuple[str, ...]
    topologies: tuple[str, ...]
    programs: tuple[str, ...]
    sequences: int | None = None
    group: int = 0
    length: int = 4096
    new: int = 1024

    def __post_init__(self) -> None:
        for told, known, name in (
            (self.presets, PRESETS, "presets"),
            (self.programs, PROGRAMS, "programs"),
        ):
            if strange := [x for x in told if x not in known]:
                raise ValueError(f"{name} has {strange[0]!r}; there are {', '.join(known)}.")
        for topology in self.topologies:
            Topology(topology)


@dataclass(frozen=True)
class AotMatrixCommand:
    """Compile every program of a file for every slice of it, one at a time, and plan with them.

    What is compiled already is not compiled again: stopped anywhere, the same command goes on.

    Args:
        groups: Presets, topologies and programs, all with all of a group.
        output: A folder for data.jsonl, a line per program, and index.html, a page.
    """

    groups: tuple[GroupConfig, ...]
    output: str = "runs/aot"

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("groups is empty: name presets, topologies and programs.")
