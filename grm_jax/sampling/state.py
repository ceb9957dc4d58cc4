"""What goes into and comes out of one sampling program, and what its loop carries.

Letters: B prompts, R samples of a prompt, S prompt slots, T new tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jaxtyping import Array

from grm_jax.models.cache import SampleCache


@jax.tree_util.register_dataclass
@dataclass
class Prompts:
    """A batch of right-padded prompts and who draws from them.

    tokens, positions [B, S] int32 (position -1 on padding); item [B] uint32, sample [B, R] uint32
    name the random stream; active [B, R] bool is False for slots that fill the batch up.
    """

    tokens: Array
    positions: Array
    item: Array
    sample: Array
    active: Array


@jax.tree_util.register_dataclass
@dataclass
class LoopState:
    """The carry of the decode loop after `step` tokens."""

    step: Array
    hidden: Array  # [B, R, D] what the next token is drawn from
    done: Array  # [B, R]
    tokens: Array  # [B, R, T]
    logprobs: Array  # [B, R, T] f32
    lengths: Array  # [B, R]
    cache: SampleCache


@jax.tree_util.register_dataclass
@dataclass
class Drawn:
    """Device result: tokens [B, R, T], logprobs [B, R, T] f32, lengths [B, R] (stop token
    included), done [B, R] (False: the length limit cut it off)."""

    tokens: Array
    logprobs: Array
    lengths: Array
    done: Array
