"""What the sampling programs hold between two calls, and what they are given and give back.

Letters: Z lanes (parts of the batch on different devices), B prompts of a lane, N slots of a lane,
Q entries of the queue of a lane, M steps of a call, D model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grm_jax.models import cache as kv
from grm_jax.models.cache import PromptCache, SampleCache
from grm_jax.models.decoding import Seats
from grm_jax.models.model import Model


@jax.tree_util.register_dataclass
@dataclass
class Prompts:
    """The prefilled prompts: their cache, and the hidden states [Z, B, D] that the first token of
    each is drawn from."""

    cache: PromptCache
    last: Any


@jax.tree_util.register_dataclass
@dataclass
class Slots:
    """The samples that are being decoded, one in each slot.

    entry [Z, N] int32 is the number of the queue's entry that a slot holds; key [Z, N, 2] uint32
    is that of its random stream; hidden [Z, N, D] is what its next token is drawn from; head [Z]
    int32 counts the entries that were taken from the queue.
    """

    seats: Seats
    entry: Any
    key: Any
    hidden: Any
    cache: SampleCache
    head: Any


class Queue(NamedTuple):
    """The samples that wait for a slot: entry number e stands at index e % Q, and those from
    `Slots.head` up to `tail` [Z] are there.

    row, place [Z, Q] are as in `Seats`; item, sample [Z, Q] uint32 name a random stream; an entry
    that is not `wanted` is passed over. kept [Z, B * R] says, for each place of each row, whether
    the sample there is to go on.
    """

    row: Any
    place: Any
    item: Any
    sample: Any
    wanted: Any
    kept: Any
    tail: Any


class Drawn(NamedTuple):
    """The tokens of a call, [M, Z, N]: what was drawn, its log-probability under the model, and the
    entry that it belongs to (-1: the slot was empty)."""

    token: Any
    logprob: Any
    entry: Any


def empty_prompts(model: Model, lanes: int, prompts: int, length: int, after: int = 0) -> Prompts:
    """Room for prompts of so many tokens, see `cache.empty_prompts`."""
    cache = kv.empty_prompts(model.spec, lanes, prompts, length, model.dtype, after)
    return Prompts(cache, jnp.zeros((lanes, prompts, model.config.embed_dim), model.dtype))


def empty_slots(model: Model, lanes: int, slots: int, new: int) -> Slots:
    """Slots without samples, with room for so many new tokens."""
    numbers = jnp.zeros((lanes, slots), jnp.int32)
    return Slots(
        seats=Seats(numbers, numbers, numbers, jnp.zeros((lanes, slots), bool)),
        entry=numbers - 1,
        key=jnp.zeros((lanes, slots, 2), jnp.uint32),
        hidden=jnp.zeros((lanes, slots, model.config.embed_dim), model.dtype),
        cache=kv.empty_samples(model.spec, lanes, slots, new, model.dtype),
        head=jnp.zeros((lanes,), jnp.int32),
    )


def prompt_axes(model: Model) -> Prompts:
    """The names of the dimensions of every array of Prompts."""
    return Prompts(kv.prompt_axes(model.spec), ("batch", None, None))


def slot_axes(model: Model) -> Slots:
    """The names of the dimensions of every array of Slots."""
    each = ("batch", None)
    return Slots(
        seats=Seats(each, each, each, each),
        entry=each,
        key=("batch", None, None),
        hidden=("batch", None, None),
        cache=kv.sample_axes(model.spec),
        head=("batch",),
    )
