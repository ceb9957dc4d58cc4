"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), in two forms.

With c a position's latent vector, head n has keys [K_n c, k] and values V_n c, where k is rotated
and the same for all heads. Training makes them (`expanded`). Over a cache they are never made:
q . K_n c = (K_n^T q) . c, so queries are brought into the space of the latents, which are then the
one key of all heads, and V_n is applied to the sum that attention gives (`absorbed`, `values`).
Prefilling does the same: for a piece of 128 tokens that costs less than making the keys and values
of all that came before it.
Letters: B batch, T time, N heads, C numbers in a latent vector, H a head's queries and keys, R
those of them that are rotated, W a head's values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models.adapted import project
from grm_jax.models.rope import rotate
from grm_jax.models.spec import LatentAttention


class Parts(NamedTuple):
    """What a layer makes of its input: queries that are not rotated [B, T, N, H - R], and that are
    [B, T, N, R], both scaled; latent vectors [B, T, C]; the heads' rotated key [B, T, 1, R]."""

    plain: Array
    rotated: Array
    latent: Array
    key: Array


def parts(
    a: LatentAttention,
    q: Float[Array, "B T N H"],
    latent: Float[Array, "B T C"],
    key: Float[Array, "B T R"],
    positions: Int[Array, "B T"],
) -> Parts:
    """The parts of queries, normed latent vectors, and the heads' common key."""
    plain, turned = jnp.split(q, [a.nope_dim], axis=-1)
    turned, shared = (_rotated(x, positions, a) for x in (turned, key[:, :, None]))
    scale = jnp.asarray(a.query_scale, q.dtype)
    return Parts(plain * scale, turned * scale, latent, shared)


def _rotated(
    x: Float[Array, "B T N R"], positions: Int[Array, "B T"], a: LatentAttention
) -> Float[Array, "B T N R"]:
    """Neighbours are first brought into two halves; queries and keys alike, so no product moves."""
    if a.interleaved:
        pairs = x.reshape(*x.shape[:-1], a.rope_dim // 2, 2)
        x = pairs.swapaxes(-1, -2).reshape(x.shape)
    return rotate(x, positions, a.rope)


def expanded(
    a: LatentAttention, weight: Any, made: Parts
) -> tuple[Float[Array, "B T N H"], Float[Array, "B T N H"], Float[Array, "B T N W"]]:
    """Queries, keys and values of every head; `weight` [N, X, C] is K and V, one under the other,
    in any form that `adapted.project` takes."""
    both = project("btc,nxc->btnx", made.latent, weight)
    keys, values = jnp.split(both, [a.nope_dim], axis=-1)
    key = jnp.broadcast_to(made.key, (*keys.shape[:-1], a.rope_dim))
    q = jnp.concatenate([made.plain, made.rotated], axis=-1)
    return q, jnp.concatenate([keys, key], axis=-1), values


def absorbed(
    a: LatentAttention, weight: Float[Array, "N X C"], made: Parts
) -> tuple[Float[Array, "B T N L"], Float[Array, "B T 1 L"]]:
    """Queries in the space of the latents, and what is cached, L = C + R."""
    keys = weight[:, : a.nope_dim].astype(made.plain.dtype)
    q = jnp.einsum("btnh,nhc->btnc", made.plain, keys)
    cached = jnp.concatenate([made.latent[:, :, None], made.key], axis=-1)
    return jnp.concatenate([q, made.rotated], axis=-1), cached


def values(
    a: LatentAttention, weight: Float[Array, "N X C"], summed: Float[Array, "B T N L"]
) -> Float[Array, "B T N W"]:
    """A head's values, of the sum of what is cached; the sum of rotated keys is not used."""
    latent = summed[..., : a.latent_dim]
    return jnp.einsum("btnc,nwc->btnw", latent, weight[:, a.nope_dim :].astype(latent.dtype))
