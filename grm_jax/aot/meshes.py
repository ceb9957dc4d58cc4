"""The mesh for a model of some size where none is given: a shape that divides it."""

from __future__ import annotations

import math

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Config
from grm_jax.models.spec import Experts, LatentAttention


def train_mesh(config: Config, devices: int, sequences: int) -> MeshConfig:
    """As many ways to split weights and sequences (fsdp) as fit; the rest to `data` or `tensor`.

    Raises:
        ValueError: nothing divides.
    """
    divided = math.gcd(devices, config.embed_dim, *_ranks(config))
    for fsdp in (n for n in range(divided, 0, -1) if divided % n == 0):
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


def _ranks(config: Config) -> list[int]:
    """The sizes of the latent vectors of every layer."""
    latents = [x.attention for x in config.spec.layers if isinstance(x.attention, LatentAttention)]
    return [n for a in latents for n in (a.query_rank, a.latent_dim) if n is not None]
