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

from grm_jax.models import experts, latent
from grm_jax.models.adapted import project
from grm_jax.models.quantized import plain
from grm_jax.models.rope import rotate
from grm_jax.models.spec import (
    Activation,
    Attention,
    Experts,
    GatedMLP,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    Norm,
)

# 0.02 is the `initializer_range` of every family; used for every matrix so that a random model is
# harmless.
INIT_SCALE = 0.02

_TO_HEADS = "btd,ndh->btnh"

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
    """One layer: attention and a feed-forward, each between norms, see `LayerSpec`."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec, dtype: str, rngs: nnx.Rngs):
        a, d = layer.attention, spec.embed_dim
        self.layer, self.norm = layer, spec.norm
        norm = lambda: nnx.Param(init_norm(spec.norm, d, dtype), axes=("norm",))  # noqa: E731
        self.pre_attn_norm, self.pre_mlp_norm = norm(), norm()
        if layer.post_norms:
            self.post_attn_norm, self.post_mlp_norm = norm(), norm()
        if isinstance(a, LatentAttention):
            self._add_latents(a, d, dtype, rngs)
        else:
            self._add_heads(a, d, dtype, rngs)
        if isinstance(layer.mlp, Experts):
            self._add_experts(layer.mlp, d, dtype, rngs)
        else:
            self._add_mlp("", layer.mlp.dim, d, dtype, rngs)

    def _add_heads(self, a: Attention, d: int, dtype: str, rngs: nnx.Rngs) -> None:
        heads, kv_heads = (a.num_heads, a.head_dim), (a.num_kv_heads, a.head_dim)
        self.q = _heads_first(rngs, (d, *heads), dtype, ("heads", "embed", None))
        self.k = _heads_first(rngs, (d, *kv_heads), dtype, ("kv_heads", "embed", None))
        self.v = _heads_first(rngs, (d, *kv_heads), dtype, ("kv_heads", "embed", None))
        self.o = _matrix(rngs, (*heads, d), dtype, ("heads", None, "embed"))
        if a.qk_norm:
            small = lambda: nnx.Param(init_norm(self.norm, a.head_dim, dtype), axes=(None,))  # noqa: E731
            self.q_norm, self.k_norm = small(), small()
        for name in a.biases:
            shape, axis = (heads, "heads") if name == "q" else (kv_heads, "kv_heads")
            zeros = jnp.zeros((shape[0] * shape[1],), dtype)
            setattr(self, f"{name}_bias", nnx.Param(zeros, axes=(axis,)))

    def _add_latents(self, a: LatentAttention, d: int, dtype: str, rngs: nnx.Rngs) -> None:
        n, c = a.num_heads, a.latent_dim
        small = lambda size: nnx.Param(init_norm(self.norm, size, dtype), axes=(None,))  # noqa: E731
        if a.query_rank is None:
            self.q = _heads_first(rngs, (d, n, a.head_dim), dtype, ("heads", "embed", None))
        else:
            rank = a.query_rank
            self.q_a = _matrix(rngs, (d, rank), dtype, ("embed", None))
            self.q_a_norm = small(rank)
            self.q_b = _heads_first(rngs, (rank, n, a.head_dim), dtype, ("heads", "rank", None))
        self.kv_a = _matrix(rngs, (d, a.cache_dim), dtype, ("embed", None))
        self.kv_a_norm = small(c)
        self.kv_b = _matrix(rngs, (n, a.nope_dim + a.value_dim, c), dtype, ("heads", None, "rank"))
        self.o = _matrix(rngs, (n, a.value_dim, d), dtype, ("heads", None, "embed"))

    def _add_mlp(self, prefix: str, f: int, d: int, dtype: str, rngs: nnx.Rngs) -> None:
        for name in ("gate", "up"):
            setattr(self, prefix + name, _matrix(rngs, (d, f), dtype, ("embed", "mlp")))
        setattr(self, f"{prefix}down", _matrix(rngs, (f, d), dtype, ("mlp", "embed")))

    def _add_experts(self, mlp: Experts, d: int, dtype: str, rngs: nnx.Rngs) -> None:
        e, f = mlp.count, mlp.dim
        self.router = _matrix(rngs, (d, e), dtype, ("embed", None))
        if mlp.gate.corrected:
            # In f32 whatever the rest is in: a choice hangs on small differences.
            self.router_bias = nnx.Param(jnp.zeros((e,), jnp.float32), axes=(None,))
        self.experts_gate = _matrix(rngs, (e, d, f), dtype, ("expert", "embed", None))
        self.experts_up = _matrix(rngs, (e, d, f), dtype, ("expert", "embed", None))
        self.experts_down = _matrix(rngs, (e, f, d), dtype, ("expert", None, "embed"))
        self._add_mlp("shared_", mlp.shared_dim, d, dtype, rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        attend: Callable[[Array, Array, Array], Array],
        watch: Callable[[experts.Routing], None] | None = None,
    ) -> Float[Array, "B T D"]:
        """Runs the block; `attend(q, k, v)` gets rotated q [B,T,N,H] (scaled), k, v [B,T,K,H].

        watch: is told what the gate does, where there is one.
        """
        with jax.named_scope("attention"):
            h = rms_norm(x, self.pre_attn_norm[...], self.norm)
            h = attend(*self._heads(h, positions))
            h = self._project("o", h, "btnh,nhd->btd")
            if self.layer.post_norms:
                h = rms_norm(h, self.post_attn_norm[...], self.norm)
            x = x + h
        with jax.named_scope("mlp"):
            h = rms_norm(x, self.pre_mlp_norm[...], self.norm)
            h = self._feed_forward(h, positions, watch)
            if self.layer.post_norms:
                h = rms_norm(h, self.post_mlp_norm[...], self.norm)
            return x + h

    def _heads(self, h: Float[Array, "B T D"], positions: Int[Array, "B T"]) -> tuple[Array, ...]:
        """Queries, keys and values of every head."""
        a = self.layer.attention
        if isinstance(a, LatentAttention):
            if a.query_rank is None:
                q = self._project("q", h, _TO_HEADS)
            else:
                low = rms_norm(self._project("q_a", h), self.q_a_norm[...], latent_norm(a))
                q = self._project("q_b", low, _TO_HEADS)
            made = latent_parts(a, self._weight, q, self._project("kv_a", h), positions)
            return latent.expanded(a, self.kv_b.get_value(), made)
        q, k, v = (self._project(name, h, _TO_HEADS) for name in "qkv")
        return prepare(a, self.norm, self._weight, q, k, v, positions)

    def _feed_forward(
        self,
        h: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        watch: Callable[[experts.Routing], None] | None,
    ) -> Float[Array, "B T D"]:
        mlp = self.layer.mlp
        if isinstance(mlp, GatedMLP):
            return self._mlp("", h)

        def see(logits: Array, routed: experts.Routed) -> None:
            if watch is not None:
                watch(experts.routing(mlp, logits, routed, positions >= 0))

        return chosen_experts(mlp, self._weight, h, see) + self._mlp("shared_", h)

    def _mlp(self, prefix: str, h: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        gate = ACTIVATIONS[self.layer.mlp.activation](self._project(f"{prefix}gate", h))
        return self._project(f"{prefix}down", gate * self._project(f"{prefix}up", h))

    def _project(
        self, name: str, x: Float[Array, "B T ..."], equation: str = "btd,df->btf"
    ) -> Float[Array, "B T ..."]:
        # An array, one in int8, or an `Adapted`.
        return project(equation, x, getattr(self, name).get_value())

    def _weight(self, name: str) -> Array:
        return plain(getattr(self, name).get_value())


def prepare(
    a: Attention,
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


def latent_norm(a: LatentAttention) -> Norm:
    """The norm of latent vectors."""
    return Norm(a.norm_eps, from_one=False)


def latent_parts(
    a: LatentAttention,
    weight: Callable[[str], Array],
    q: Float[Array, "B T N H"],
    kv: Float[Array, "B T L"],
    positions: Int[Array, "B T"],
) -> latent.Parts:
    """What latent attention makes of its projections.

    weight: a norm of the layer, by name.
    """
    vector, key = jnp.split(kv, [a.latent_dim], axis=-1)
    vector = rms_norm(vector, weight("kv_a_norm"), latent_norm(a))
    return latent.parts(a, q, vector, key, positions)


def chosen_experts(
    mlp: Experts,
    weight: Callable[[str], Array],
    h: Float[Array, "B T D"],
    see: Callable[[Array, experts.Routed], None] | None = None,
) -> Float[Array, "B T D"]:
    """What the experts that the gate chooses make of each token.

    weight: a weight of the layer, by name. see: is shown the router's logits, and the choice.
    """
    bias = weight("router_bias") if mlp.gate.corrected else None
    logits = experts.router_logits(weight("router"), h)
    routed = experts.choose(mlp.gate, mlp.chosen, logits, bias)
    if see is not None:
        see(logits, routed)
    names = ("experts_gate", "experts_up", "experts_down")
    matrices = experts.Matrices(*(weight(name) for name in names))
    return experts.mixed(matrices, routed, h, ACTIVATIONS[mlp.activation])
