"""The parts of one layer, as NNX modules over plain arrays.

`Param`s carry the names of their dimensions (`axes`), which `grm_jax.sharding` maps to a mesh.
Letters: B batch, T time, N heads, K key-value heads, H head size, D model, F feed-forward.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from grm_jax.models.rope import rotate
from grm_jax.models.spec import Activation, LayerSpec, ModelSpec, Norm

# 0.02 is the `initializer_range` of every family; used for every matrix so that a random model is
# harmless.
INIT_SCALE = 0.02

ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
}


def _matrix(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: str, axes: tuple) -> nnx.Param:
    value = INIT_SCALE * jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param(value.astype(dtype), axes=axes)


def _heads_first(rngs: nnx.Rngs, shape: tuple[int, ...], dtype: str, axes: tuple) -> nnx.Param:
    """A matrix [D, N, H], stored as [N, D, H]: a TPU would copy the other to multiply few tokens.

    Its numbers are drawn in the first order, so that a seed means what it meant before.
    """
    value = INIT_SCALE * jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param(value.swapaxes(0, 1).astype(dtype), axes=axes)


def init_norm(norm: Norm, size: int, dtype: str) -> Float[Array, " D"]:
    """The weights of a norm that multiplies by 1."""
    return jnp.zeros((size,), dtype) if norm.from_one else jnp.ones((size,), dtype)


def rms_norm(
    x: Float[Array, "*B D"], weight: Float[Array, " D"], norm: Norm
) -> Float[Array, "*B D"]:
    """x / rms(x), computed in f32, times the weight as `Norm` says."""
    x32 = x.astype(jnp.float32)
    normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + norm.eps)
    return scale_norm(normed, weight, norm, x.dtype)


def scale_norm(
    normed: Float[Array, ...], weight: Float[Array, " D"], norm: Norm, dtype, after: int = 0
) -> Float[Array, ...]:
    """What is normed in f32, times the weight, in `dtype`; `after` dimensions follow D."""
    spread = (slice(None), *(None,) * after)
    if norm.from_one:
        return (normed * (1.0 + weight.astype(jnp.float32))[spread]).astype(dtype)
    return normed.astype(dtype) * weight.astype(dtype)[spread]


class Block(nnx.Module):
    """One layer: attention and a gated feed-forward, each between norms, see `LayerSpec`."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec, dtype: str, rngs: nnx.Rngs):
        a, d, f = layer.attention, spec.embed_dim, layer.mlp.dim
        self.layer, self.norm = layer, spec.norm
        norm = lambda: nnx.Param(init_norm(spec.norm, d, dtype), axes=("norm",))  # noqa: E731
        self.pre_attn_norm, self.pre_mlp_norm = norm(), norm()
        if layer.post_norms:
            self.post_attn_norm, self.post_mlp_norm = norm(), norm()
        heads, kv_heads = (a.num_heads, a.head_dim), (a.num_kv_heads, a.head_dim)
        self.q = _heads_first(rngs, (d, *heads), dtype, ("heads", "embed", None))
        self.k = _heads_first(rngs, (d, *kv_heads), dtype, ("kv_heads", "embed", None))
        self.v = _heads_first(rngs, (d, *kv_heads), dtype, ("kv_heads", "embed", None))
        self.o = _matrix(rngs, (*heads, d), dtype, ("heads", None, "embed"))
        self.gate = _matrix(rngs, (d, f), dtype, ("embed", "mlp"))
        self.up = _matrix(rngs, (d, f), dtype, ("embed", "mlp"))
        self.down = _matrix(rngs, (f, d), dtype, ("mlp", "embed"))
        if a.qk_norm:
            small = lambda: nnx.Param(init_norm(spec.norm, a.head_dim, dtype), axes=(None,))  # noqa: E731
            self.q_norm, self.k_norm = small(), small()
        for name in a.biases:
            shape, axis = (heads, "heads") if name == "q" else (kv_heads, "kv_heads")
            zeros = jnp.zeros((shape[0] * shape[1],), dtype)
            setattr(self, f"{name}_bias", nnx.Param(zeros, axes=(axis,)))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        attend: Callable[[Array, Array, Array], Array],
    ) -> Float[Array, "B T D"]:
        """Runs the block; `attend(q, k, v)` gets rotated q [B,T,N,H] (scaled), k, v [B,T,K,H]."""
        with jax.named_scope("attention"):
            h = rms_norm(x, self.pre_attn_norm[...], self.norm)
            q, k, v = (_project(h, getattr(self, name)[...]) for name in "qkv")
            q, k, v = prepare(self.layer, self.norm, self._small, q, k, v, positions)
            h = attend(q, k, v)
            h = jnp.einsum("btnh,nhd->btd", h, self.o[...].astype(h.dtype))
            if self.layer.post_norms:
                h = rms_norm(h, self.post_attn_norm[...], self.norm)
            x = x + h
        with jax.named_scope("mlp"):
            h = rms_norm(x, self.pre_mlp_norm[...], self.norm)
            gate = ACTIVATIONS[self.layer.mlp.activation](h @ self.gate[...].astype(h.dtype))
            h = (gate * (h @ self.up[...].astype(h.dtype))) @ self.down[...].astype(h.dtype)
            if self.layer.post_norms:
                h = rms_norm(h, self.post_mlp_norm[...], self.norm)
            return x + h

    def _small(self, name: str) -> Array:
        return getattr(self, name)[...]


def prepare(
    layer: LayerSpec,
    norm: Norm,
    weight: Callable[[str], Array],
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    positions: Int[Array, "B T"],
) -> tuple[Float[Array, "B T N H"], Float[Array, "B T K H"], Float[Array, "B T K H"]]:
    """What attention gets of the projections: with biases, normed, rotated, queries scaled.

    weight: a bias or a norm of the layer, by name.
    """
    a = layer.attention
    if a.biases:
        q, k, v = (
            x + weight(f"{name}_bias").astype(x.dtype).reshape(x.shape[2:])
            if name in a.biases
            else x
            for name, x in (("q", q), ("k", k), ("v", v))
        )
    if a.qk_norm:
        q, k = rms_norm(q, weight("q_norm"), norm), rms_norm(k, weight("k_norm"), norm)
    q, k = rotate(q, positions, a.rope), rotate(k, positions, a.rope)
    return q * jnp.asarray(a.query_scale, q.dtype), k, v


def _project(x: Float[Array, "B T D"], w: Float[Array, "N D H"]) -> Float[Array, "B T N H"]:
    return jnp.einsum("btd,ndh->btnh", x, w.astype(x.dtype))
