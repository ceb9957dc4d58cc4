"""How a run computes: devices, memory and precision, the same for every stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Remat


@dataclass(frozen=True)
class ComputeConfig:
    """What a run costs, and (but for `dtype`) nothing of what it learns.

    Args:
        mesh: how many devices along data, fsdp and tensor.
        microbatches: into how many parts a batch is cut to save memory; the result is the same.
        remat: what the backward pass computes again instead of keeping it, from fast to small:
            nothing ("none"), the weights of attention ("attention", which a TPU never keeps), all
            but products with weight matrices ("dots"), or all of two layers at a time ("full").
        logits_chunk: of how many tokens a device has logits in memory at once.
        dtype: what activations are computed in; weights and optimiser are float32.

    Raises:
        ValueError: a count that is not positive.
    """

    mesh: MeshConfig = field(default_factory=MeshConfig)
    microbatches: int = 1
    remat: Remat = "none"
    logits_chunk: int = 1024
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.microbatches < 1:
            raise ValueError(f"microbatches is {self.microbatches}; give 1 (whole) or more.")
        if self.logits_chunk < 1:
            raise ValueError(f"logits_chunk is {self.logits_chunk}; give 1 or more.")
