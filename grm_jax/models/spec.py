"""All in which one backbone differs from another, as numbers: the forward pass reads nothing else.

A trunk is segments, one after the other; a segment is a period of layers, repeated. Gemma-2 is
(local, global) P times; Gemma 3 is (5 local, global) P times and a tail of local ones; Qwen3 and
Llama are (full) L times. One period is one body of a scan, so its masks and sizes are static.
Nothing here needs jax.
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


@dataclass(frozen=True)
class GatedMLP:
    """down(activation(gate x) * up x), `dim` wide."""

    dim: int
    activation: Activation


@dataclass(frozen=True)
class LayerSpec:
    """One layer: attention and a feed-forward, each behind a norm; with `post_norms` each is
    normed once more before it is added."""

    attention: Attention
    mlp: GatedMLP
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
