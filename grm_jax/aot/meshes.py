"""The mesh for a model of some size where none is given: a shape that divides it."""

from __future__ import annotations

import math

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Config
from grm_jax.models.spec import Experts


def train_mesh(config: Config, devices: int, sequences: int) -> MeshConfig:
    """As many ways to split weights and sequences (fsdp) as fit; the rest to `data` or `tensor`.

    Raises:
        ValueError: nothing divides.
    """
    sizes = [n for n in range(devices, 0, -1) if devices % n == 0 and config.embed_dim % n == 0]
    for fsdp in sizes:
        if sequences % devices == 0:
            return MeshConfig(devices // fsdp, fsdp, 1)
        if sequences % fsdp == 0 and _kv_heads(config) % (devices // fsdp) == 0:
            return MeshConfig(1, fsdp, devices // fsdp)
    raise ValueError(
        f"{sequences} sequences and a model dimension of {config.embed_dim} cannot be split over "
        f"{devices} devices: give sequences, or mesh.data, mesh.fsdp and mesh.tensor."
    )


def decode_mesh(config: Config, devices: int) -> MeshConfig:
    """Weights over as many devices as divide the key-value heads, prompts over the rest."""
    heads = _kv_heads(config)
    tensor = next(n for n in range(devices, 0, -1) if devices % n == heads % n == 0)
    return MeshConfig(devices // tensor, 1, tensor)


def _kv_heads(config: Config) -> int:
    """The largest number that divides the key-value heads of every layer, and its experts."""
    sizes = [layer.attention.mesh_heads for layer in config.spec.layers]
    sizes += [x.mlp.count for x in config.spec.layers if isinstance(x.mlp, Experts)]
    return math.gcd(*sizes)
