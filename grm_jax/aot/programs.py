"""Every program that can be compiled ahead of time, by name.

Each is the function that the trainer or the sampler runs, with the same shardings, on shapes
instead of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jax.sharding import Mesh

from grm_jax.aot.config import PROGRAMS
from grm_jax.aot.judging import decode, meta_score, prefill
from grm_jax.aot.meshes import decode_mesh, train_mesh
from grm_jax.aot.training import grpo_score, grpo_step, meta_step, rft_step
from grm_jax.aot.work import Program, Work
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Config
from grm_jax.sharding import make_mesh

_MAKE: dict[str, Callable[[Config, Mesh, Work], Program]] = {
    "rft-step": rft_step,
    "grpo-step": grpo_step,
    "grpo-score": grpo_score,
    "meta-step": meta_step,
    "meta-score": meta_score,
    "prefill": prefill,
    "decode": decode,
}


def build(
    name: str,
    config: Config,
    devices: list[Any],
    work: Work | None = None,
    shape: MeshConfig | None = None,
) -> Program:
    """A program for a model of some size.

    Args:
        name: one of `PROGRAMS`.
        work: by default the paper's batch, 4,096 tokens per sequence, k = 32.
        shape: of the mesh; by default `train_mesh` or `decode_mesh`.

    Raises:
        ValueError: no such program, or the mesh does not divide the model or the sequences.
    """
    if name not in PROGRAMS:
        raise ValueError(f"program is {name!r}; the programs are {', '.join(PROGRAMS)}.")
    sequences, training = PROGRAMS[name]
    work = work or Work(sequences)
    if shape is None:
        slices = len({getattr(device, "slice_index", 0) for device in devices})
        whole = work.grouped()[0] if name.startswith("grpo") else work.sequences
        count, rows = len(devices) // slices, whole // slices
        one = train_mesh(config, count, rows) if training else decode_mesh(config, count)
        shape = replace(one, data=slices * one.data)
    return _MAKE[name](config, make_mesh(shape, devices), work)
