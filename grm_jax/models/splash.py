"""Attention on TPUs: JAX's splash kernel, which keeps no [T, S] of logits in memory.

It goes through the logits in blocks, and leaves out those in which the mask lets nothing through.
Letters: B batch, T time, N heads, K key-value heads, H head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Float, Int

from grm_jax.models.remat import ATTENTION
from grm_jax.sharding import TRAIN_RULES, spec_for

LANES = 128  # of a TPU's registers: blocks are multiples of it
BLOCK = 512  # queries and keys of a block at most: 1 MiB of f32 logits, of 16 MiB of fast memory
PADDING = -1


class Group(NamedTuple):
    """Rows that are a prompt and then completions of it, so many tokens each."""

    prompt: int
    completion: int


@dataclass(frozen=True)
class GroupMask(splash.Mask):
    """The static mask of such rows, by place: who sees whom, computed a block at a time.

    Places are a row's positions, since prompts are padded on the left.
    """

    length: int
    group: Group
    window: int | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.length, self.length

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        (query, query_part), (key, key_part) = map(self._places, index)
        query, query_part = query[:, None], query_part[:, None]
        seen = (key <= query) & ((key_part == 0) | (key_part == query_part))
        return seen if self.window is None else seen & (query - key < self.window)

    def _places(self, index: slice) -> tuple[np.ndarray, np.ndarray]:
        """How far from the prompt's start, and in which part: 0 the prompt, 1 .. completions."""
        at = np.arange(*index.indices(self.length))
        part, inside = np.divmod(at - self.group.prompt, self.group.completion)
        prompt = at < self.group.prompt
        return np.where(prompt, at, self.group.prompt + inside), np.where(prompt, 0, part + 1)


def block_size(length: int) -> int:
    """Queries, and keys, of one block for rows of this length padded to a multiple of 128."""
    return math.gcd(length + -length % LANES, BLOCK)


def splash_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K W"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"] | None,
    *,
    window: int | None,
    softcap: float | None,
    group: Group | None = None,
    interpret: bool = False,
) -> Float[Array, "B T N W"]:
    """The same as `attention` under `causal_mask(positions, window, segments)`; padding aside.

    The kernel masks by place in the row, not by position. The two are the same where the
    positions of a segment are contiguous and increasing, and its tokens stand side by side: only
    then may this be called. Padding is a segment of its own, and its outputs mean nothing.

    On a mesh (`jax.set_mesh`), every device runs the kernel on its own rows and heads.

    Args:
        group: the rows are groups; prompts are padded on the left, completions on the right.
        interpret: compute what the kernel would on any platform, slowly, to test it.
    """
    if segments is None:
        segments = jnp.zeros_like(positions)
    segments = jnp.where(positions >= 0, segments, PADDING)

    def local(q: Array, k: Array, v: Array, segments: Array) -> Array:
        t = q.shape[1]
        kernel = row_kernel(q.shape[2], t + -t % LANES, window, softcap, interpret, group)
        segments = jnp.pad(segments, ((0, 0), (0, -t % LANES)), constant_values=PADDING)
        q, k, v = (
            jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, -t % LANES), (0, 0))) for x in (q, k, v)
        )
        out = jax.vmap(kernel)(q, k, v, splash.SegmentIds(segments, segments))
        return out[:, :, :t].swapaxes(1, 2)

    if jax.sharding.get_abstract_mesh().empty:
        return local(q, k, v, segments)
    rows = spec_for(("batch",), TRAIN_RULES)
    queries = spec_for(("batch", None, "heads", None), TRAIN_RULES)
    keys = spec_for(("batch", None, "kv_heads", None), TRAIN_RULES)
    # check_vma: a Pallas call does not say along which axes its results differ.
    return jax.shard_map(
        local, in_specs=(queries, keys, keys, rows), out_specs=queries, check_vma=False
    )(q, k, v, segments)


def row_kernel(
    heads: int,
    length: int,
    window: int | None,
    softcap: float | None,
    interpret: bool = False,
    group: Group | None = None,
) -> Callable[..., Any]:
    """The kernel for one row: q [N, T, H], k and v [K, T, H], segment ids [T] -> [N, T, H].

    `length` T is a multiple of 128.
    """
    square = (length, length)
    if group is not None:
        mask = GroupMask(length, group, window)
    elif window is None or window >= length:
        mask = splash.CausalMask(square)
    else:
        mask = splash.LocalMask(square, (window - 1, 0), 0)
    block = block_size(length)
    # Two kernels backward: the fused one would round each block's share of dq to bf16, and keep
    # all of them in memory.
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return splash.make_splash_mha(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=softcap,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )
