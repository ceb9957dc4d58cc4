"""The shape of a mesh, as people write it; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MeshConfig:
    """How many devices along each mesh axis; one -1 takes what is left.

    Over several slices `data` counts the devices of all of them, and is a multiple of their number.
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
