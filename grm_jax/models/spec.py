"""All in which one backbone differs from another, as numbers: the forward pass reads nothing else.

A trunk is segments, one after the other; a segment is a period of layers, repeated. Gemma-2 is
(local, global) P times; Gemma 3 is (5 local, global) P times and a tail of local ones; Qwen3 and
Llama are (full) L times; DeepSeek is a few dense layers, then those with experts. One period is
one body of a scan, so its masks and sizes are static. Nothing here needs jax.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Head = Literal["lm", "scalar"]
Activation = Literal["gelu_tanh", "silu"]


@dataclass(frozen=True)
class LinearScaling:
    """All frequencies divided by `factor`: positions are interpolated."""

    factor: float
    kind: Literal["linear"] = "linear"


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's: wavelengths longer than `original` / `low` are divided by `factor`, those
    shorter than `original` / `high` stay, and those between are blended."""

    factor: float
    low: float
    high: float
    original: int
    kind: Literal["llama3"] = "llama3"


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): what turns fewer than `beta_slow` times within `original` positions
    is divided by `factor`, more than `beta_fast` times stays, and a ramp over dimensions between;
    sine and cosine are multiplied by `attention`."""

    factor: float
    original: int
    attention: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    kind: Literal["yarn"] = "yarn"


Scaling = LinearScaling | Llama3Scaling | YarnScaling


@dataclass(frozen=True)
class Rope:
    """Rotary phases: dimension pair i of H/2 turns by base^(-2i/H) per position, scaled."""

    base: float
    scaling: Scaling | None = None


@dataclass(frozen=True)
class Attention:
    """Grouped-query attention.

    Attributes:
        query_scale: what queries are multiplied by.
        window: how many positions a query sees, its own included; None: all before it.
        softcap: logits x become softcap * tanh(x / softcap); None: they stay.
        qk_norm: queries and keys are normed over the head size, before they are rotated.
        biases: which of "q", "k" and "v" have one.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    query_scale: float
    rope: Rope
    window: int | None = None
    softcap: float | None = None
    qk_norm: bool = False
    biases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads "
                f"({self.num_kv_heads}): each key-value head serves the same number of queries."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary phases need an even number.")
        if self.window is not None and self.window < 1:
            raise ValueError(f"sliding_window is {self.window}; it must be at least 1.")

    @property
    def mesh_heads(self) -> int:
        """Heads that devices share, so that their number must divide it."""
        return self.num_kv_heads

    @property
    def cache_heads(self) -> int:
        """Heads of a position in the cache."""
        return self.num_kv_heads

    @property
    def cache_dim(self) -> int:
        """Numbers of such a head's keys."""
        return self.head_dim


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Keys and values of all heads are made from one latent vector per position, and only this and a
    rotated key that the heads share are cached.

    Attributes:
        query_rank: queries come from a latent vector of this size; None: from the layer's input.
        latent_dim: numbers in the latent vector of keys and values.
        nope_dim, rope_dim: of a head's queries and keys, what is not rotated and what is.
        value_dim: of a head's values.
        query_scale: what queries are multiplied by.
        interleaved: rotated pairs are neighbours; otherwise one is in each half.
        norm_eps: of the norms of the latent vectors, which need not be that of the trunk.
    """

    num_heads: int
    latent_dim: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    query_scale: float
    rope: Rope
    query_rank: int | None = None
    interleaved: bool = True
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.rope_dim % 2:
            raise ValueError(
                f"qk_rope_head_dim is {self.rope_dim}; rotary phases need an even number."
            )

    @property
    def window(self) -> int | None:
        """None: a query sees all before it."""
        return None

    @property
    def softcap(self) -> float | None:
        """None: logits stay as they are."""
        return None

    @property
    def head_dim(self) -> int:
        """Numbers of a head's queries."""
        return self.nope_dim + self.rope_dim

    @property
    def mesh_heads(self) -> int:
        """Heads that devices share, so that their number must divide it."""
        return self.num_heads

    @property
    def cache_heads(self) -> int:
        """Heads of a position in the cache: all heads read the same latent vector."""
        return 1

    @property
    def cache_dim(self) -> int:
        """Numbers of a position in the cache, which are its key and its value at once."""
        return self.latent_dim + self.rope_dim


@dataclass(frozen=True)
class GatedMLP:
    """down(activation(gate x) * up x), `dim` wide."""

    dim: int
    activation: Activation


@dataclass(frozen=True)
class Gate:
    """Which experts a token goes to, and how much each of them counts.

    Attributes:
        score: of the router's logits. A chosen expert's score is its weight.
        groups, top_groups: experts lie in `groups` of one size, and only those of the best
            `top_groups` can be chosen.
        group_best: a group is as good as the sum of its best so many experts' scores.
        corrected: each expert has a bias that counts for the choice, not for the weight.
        normalized: the weights of a token are divided by their sum.
        scale: what weights are then multiplied by.
    """

    score: Literal["softmax", "sigmoid"]
    groups: int = 1
    top_groups: int = 1
    group_best: int = 1
    corrected: bool = False
    normalized: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Experts:
    """A mixture of gated MLPs (DeepSeekMoE, arXiv 2401.06066): those that the gate chooses, none of
    them ever full, and one that every token goes to.

    Attributes:
        count, chosen: how many there are, and how many of them each token goes to.
        dim: how wide each is. shared_dim: the one for every token.
    """

    count: int
    chosen: int
    dim: int
    shared_dim: int
    activation: Activation
    gate: Gate

    def __post_init__(self) -> None:
        groups, top = self.gate.groups, self.gate.top_groups
        if self.count % groups:
            raise ValueError(
                f"n_routed_experts ({self.count}) must be a multiple of n_group ({groups})."
            )
        if top > groups:
            raise ValueError(f"topk_group ({top}) is more than n_group ({groups}).")
        if self.gate.group_best > self.count // groups:
            raise ValueError(
                f"n_group is {groups}, so a group has {self.count // groups} experts, but its "
                f"score is the sum of the best {self.gate.group_best}."
            )
        if self.chosen > self.count // groups * top:
            raise ValueError(
                f"num_experts_per_tok is {self.chosen}, but there are only "
                f"{self.count // groups * top} experts to choose from."
            )


@dataclass(frozen=True)
class LayerSpec:
    """One layer: attention and a feed-forward, each behind a norm; with `post_norms` each is
    normed once more before it is added."""

    attention: Attention | LatentAttention
    mlp: GatedMLP | Experts
    post_norms: bool = False


@dataclass(frozen=True)
class Segment:
    """A period of layers, repeated; its name and theirs are the keys of the weights."""

    name: str
    period: tuple[tuple[str, LayerSpec], ...]
    repeats: int


@dataclass(frozen=True)
class Norm:
    """RMS norm. `from_one`: weights are stored as offsets from 1, and multiply in f32 (Gemma);
    otherwise as they are, and multiply in the type of the activations (Llama)."""

    eps: float
    from_one: bool


@dataclass(frozen=True)
class ModelSpec:
    """A trunk, its embedding and its head.

    Attributes:
        embed_scale: what embeddings are multiplied by, rounded to the activations' type; None:
            nothing.
        tied: logits come from the embedding's table; otherwise from a table of their own.
        softcap: of the logits.
    """

    vocab_size: int
    embed_dim: int
    segments: tuple[Segment, ...]
    norm: Norm
    max_position: int
    embed_scale: float | None = None
    tied: bool = True
    softcap: float | None = None

    @cached_property
    def layers(self) -> tuple[LayerSpec, ...]:
        """Every layer, the first one first."""
        return tuple(
            layer
            for segment in self.segments
            for _ in range(segment.repeats)
            for _, layer in segment.period
        )

    @cached_property
    def windows(self) -> tuple[int | None, ...]:
        """The window of every layer."""
        return tuple(layer.attention.window for layer in self.layers)
