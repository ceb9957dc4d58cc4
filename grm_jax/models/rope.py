"""Rotary position embeddings (RoFormer, arXiv 2104.09864, eq. 34) and their scalings."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.models.spec import LinearScaling, Llama3Scaling, Rope, YarnScaling


def rotate(
    x: Float[Array, "B T N H"], positions: Int[Array, "B T"], rope: Rope
) -> Float[Array, "B T N H"]:
    """Rotates the two halves of each head by position-dependent phases, in f32."""
    phase = positions[..., None, None].astype(jnp.float32) * frequencies(rope, x.shape[-1])
    sin, cos = jnp.sin(phase), jnp.cos(phase)
    if isinstance(rope.scaling, YarnScaling):
        sin, cos = sin * rope.scaling.attention, cos * rope.scaling.attention
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def frequencies(rope: Rope, head_dim: int) -> Float[Array, " half"]:
    """How far each pair of dimensions turns per position, in radians."""
    half = head_dim // 2
    plain = rope.base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    match rope.scaling:
        case None:
            return plain
        case LinearScaling(factor):
            return plain / factor
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)
        case YarnScaling() as scaling:
            return _yarn(plain, scaling, rope.base)


def _llama3(plain: Float[Array, " half"], scaling: Llama3Scaling) -> Float[Array, " half"]:
    """What transformers computes as `_compute_llama3_parameters`."""
    wavelength = 2 * math.pi / plain
    blend = (scaling.original / wavelength - scaling.low) / (scaling.high - scaling.low)
    blend = jnp.clip(blend, 0.0, 1.0)
    return (1 - blend) * plain / scaling.factor + blend * plain


def _yarn(plain: Float[Array, " half"], scaling: YarnScaling, base: float) -> Float[Array, " half"]:
    """What transformers computes as `_compute_yarn_parameters`."""
    half = plain.shape[0]

    def dimension(turns: float) -> float:
        """The pair, as a real number, that turns so often within the original positions."""
        return half * math.log(scaling.original / (turns * 2 * math.pi)) / math.log(base)

    low = max(math.floor(dimension(scaling.beta_fast)), 0)
    high = min(math.ceil(dimension(scaling.beta_slow)), 2 * half - 1)
    ramp = (jnp.arange(half, dtype=jnp.float32) - low) / max(high - low, 1e-3)
    kept = 1 - jnp.clip(ramp, 0.0, 1.0)
    return plain / scaling.factor * (1 - kept) + plain * kept
