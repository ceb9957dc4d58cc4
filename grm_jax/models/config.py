"""Gemma-2 in numbers: a frozen dataclass and the sizes that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What the backward pass makes a second time instead of keeping it: nothing; the weights of
# attention; all but the products with weight matrices; all.
Remat = Literal["none", "attention", "dots", "full"]


@dataclass(frozen=True)
class Gemma2Config:
    """Everything that fixes the shapes and the arithmetic of a Gemma-2 trunk.

    Layers alternate: even ones attend to the last `sliding_window` positions, odd ones to all.

    Raises:
        ValueError: a number that no Gemma-2 can have (odd layer count, heads that do not divide).
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    mlp_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    query_pre_attn_scalar: float
    sliding_window: int = 4096
    attn_logit_softcap: float = 50.0
    final_logit_softcap: float = 30.0
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    max_position: int = 8192

    def __post_init__(self) -> None:
        if self.num_layers < 2 or self.num_layers % 2:
            raise ValueError(
                f"num_layers is {self.num_layers}, but Gemma-2 alternates a local and a global "
                "layer: give an even number, 2 or more."
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads "
                f"({self.num_kv_heads}): each key-value head serves the same number of queries."
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary phases need an even number.")
        if self.sliding_window < 1:
            raise ValueError(f"sliding_window is {self.sliding_window}; it must be at least 1.")

    @property
    def num_pairs(self) -> int:
        """Number of (local, global) layer pairs: the length of the scan."""
        return self.num_layers // 2

    @property
    def query_scale(self) -> float:
        """What queries are multiplied by: `query_pre_attn_scalar ** -0.5` (not head_dim's)."""
        return self.query_pre_attn_scalar**-0.5


# Sizes from the published config.json files; "tiny" is the bundled GRM's (its vocabulary comes
# from its tokenizer), "small" and "medium" are for scaling curves on a CPU,
# and so are its siblings of half and a quarter of its width.
PRESETS: dict[str, Gemma2Config] = {
    "2b": Gemma2Config(256_000, 26, 2304, 9216, 8, 4, 256, 256.0),
    "9b": Gemma2Config(256_000, 42, 3584, 14336, 16, 8, 256, 256.0),
    "27b": Gemma2Config(256_000, 46, 4608, 36864, 32, 16, 128, 144.0),
    "tiny": Gemma2Config(512, 4, 128, 192, 4, 2, 32, 32.0, sliding_window=48, max_position=512),
    "tiny-half": Gemma2Config(512, 4, 64, 96, 2, 1, 32, 32.0, sliding_window=48, max_position=512),
    "tiny-quarter": Gemma2Config(
        512, 4, 32, 48, 1, 1, 32, 32.0, sliding_window=48, max_position=512
    ),
    "small": Gemma2Config(512, 6, 192, 384, 6, 3, 32, 32.0, sliding_window=48, max_position=512),
    "medium": Gemma2Config(512, 8, 256, 768, 8, 4, 32, 32.0, sliding_window=48, max_position=512),
}
