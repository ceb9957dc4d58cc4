"""`Sampler`: requests in, completions out, with few compiled shapes and no wait in between.

Requests are cut into chunks of 1, 4, 16 or 64 samples of one prompt and queued by shape; a full
batch is dispatched, and the one before it fetched while the device works. A chunk's shape follows
from its own request alone and a batch is always full-sized, so a sample is computed by the same
program whatever else is in the batch: its bits do not change.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from grm_jax.models.gemma2 import Params
from grm_jax.models.model import Model
from grm_jax.processes import everywhere, spread
from grm_jax.sampling.programs import draw
from grm_jax.sampling.state import Drawn, Prompts
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import DECODE_RULES, spec_for

Tag = TypeVar("Tag")  # whatever the caller knows its request by
NO_TAG: Any = None
GROUPS = (64, 16, 4, 1)
SMALLEST_PROMPT = 32
QUEUE_LIMIT = 64  # batches' worth of waiting samples before the oldest shape is run half empty


@dataclass(frozen=True)
class Request(Generic[Tag]):
    """Draw samples number `samples` of the prompt `tokens` for random stream `item` (uint32).

    `tag` is the caller's, and comes back with every completion.
    """

    tokens: Sequence[int]
    item: int
    samples: tuple[int, ...]
    tag: Tag = NO_TAG


@dataclass(frozen=True)
class Completion(Generic[Tag]):
    """One sample: its tokens (stop token included), their log-probabilities, and whether it
    stopped by itself (False: cut off by the length limit)."""

    request: Request[Tag]
    sample: int
    tokens: np.ndarray
    logprobs: np.ndarray
    finished: bool


@dataclass(frozen=True)
class Chunk(Generic[Tag]):
    """Some of a request's samples, which are decoded together."""

    request: Request[Tag]
    samples: tuple[int, ...]


@dataclass
class Sampler:
    """Draws completions from a language model.

    Args:
        slots: samples decoded at once (a batch has slots / group prompts); the speed and memory
            knob.
        max_new_tokens: length limit of a completion; with the prompt at most max_position.
        mesh: devices to spread over, with `params` already placed; None for one device.
    """

    model: Model
    params: Params
    stop_ids: Sequence[int]
    strategy: Strategy = field(default_factory=Strategy)
    seed: int = 0
    max_new_tokens: int = 512
    slots: int = 64
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots is {self.slots}; at least one sample must be decoded at once.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; give a whole number from 0 up to 2**32 - 1.")
        limit = self.model.config.max_position
        if not 0 < self.max_new_tokens < limit:
            raise ValueError(
                f"max_new_tokens is {self.max_new_tokens}; this model has {limit} positions for "
                f"prompt and answer together, so give 1 to {limit - 1}."
            )
        shards = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1
        self._groups = [g for g in GROUPS if g <= self.slots and self.slots // g % shards == 0]
        if not self._groups:
            raise ValueError(
                f"slots is {self.slots}, but the mesh splits a batch over {shards} devices: give a "
                f"multiple of {shards}."
            )

    @property
    def longest_prompt(self) -> int:
        """Tokens that a prompt may have, so that a full-length completion still fits."""
        return self.model.config.max_position - self.max_new_tokens

    def check_length(self, tokens: int) -> None:
        """Raises ValueError, in a sentence, unless a prompt of so many tokens can be continued."""
        if not 0 < tokens <= self.longest_prompt:
            raise ValueError(
                f"the prompt has {tokens} tokens, but this model has room for "
                f"{self.longest_prompt} beside {self.max_new_tokens} new ones: shorten the row, "
                "or lower max_new_tokens."
            )

    def __call__(self, requests: Iterable[Request[Tag]]) -> Iterator[Completion[Tag]]:
        """Yields every request's completions, in the order in which batches come back.

        Raises:
            ValueError: a prompt is empty or longer than `longest_prompt`.
        """
        queues: dict[tuple[int, int], list[Chunk[Tag]]] = collections.OrderedDict()
        in_flight: collections.deque[tuple[list[Chunk[Tag]], Drawn]] = collections.deque()
        waiting = 0
        for request in requests:
            for chunk in self._chunks(request):
                shape = (bucket(len(request.tokens), self.longest_prompt), len(chunk.samples))
                queue = queues.setdefault(shape, [])
                queue.append(chunk)
                waiting += len(chunk.samples)
                if len(queue) * shape[1] < self.slots // shape[1] * shape[1]:
                    if waiting < QUEUE_LIMIT * self.slots:
                        continue
                    shape = next(iter(queues))
                batch = queues.pop(shape)
                waiting -= sum(len(c.samples) for c in batch)
                in_flight.append((batch, self._dispatch(shape, batch)))
                if len(in_flight) > 1:
                    yield from _fetch(*in_flight.popleft())
        for shape, batch in queues.items():
            in_flight.append((batch, self._dispatch(shape, batch)))
            if len(in_flight) > 1:
                yield from _fetch(*in_flight.popleft())
        while in_flight:
            yield from _fetch(*in_flight.popleft())

    def _chunks(self, request: Request[Tag]) -> Iterator[Chunk[Tag]]:
        """The request in pieces of the allowed group sizes, largest first."""
        self.check_length(len(request.tokens))
        rest = request.samples
        while rest:
            size = next((g for g in self._groups if g <= len(rest)), self._groups[-1])
            yield Chunk(request, rest[:size])
            rest = rest[size:]

    def _dispatch(self, shape: tuple[int, int], batch: list[Chunk[Tag]]) -> Drawn:
        """Starts the programs on a full-sized batch; returns at once with arrays to come."""
        length, group = shape
        size = self.slots // group
        tokens = np.zeros((size, length), np.int32)
        positions = np.full((size, length), -1, np.int32)
        item = np.zeros((size,), np.uint32)
        sample = np.zeros((size, group), np.uint32)
        active = np.zeros((size, group), bool)
        positions[:, 0] = 0  # an unused prompt is one padding token, so that nothing is empty
        for i, chunk in enumerate(batch):
            n = len(chunk.request.tokens)
            tokens[i, :n] = chunk.request.tokens
            positions[i, :n] = np.arange(n)
            item[i] = chunk.request.item
            sample[i, : len(chunk.samples)] = chunk.samples
            active[i, : len(chunk.samples)] = True
        prompts = self._place(tokens, positions, item, sample, active)
        with jax.set_mesh(self.mesh) if self.mesh else nullcontext():
            drawn = draw(
                self.model,
                self.params,
                prompts,
                jnp.uint32(self.seed),
                self.strategy.traced(),
                jnp.asarray(self.stop_ids, jnp.int32),
                max_new_tokens=self.max_new_tokens,
                mesh=self.mesh,
            )
            return everywhere(drawn, self.mesh)

    def _place(self, *arrays: np.ndarray) -> Prompts:
        if self.mesh is None:
            return Prompts(*map(jnp.asarray, arrays))
        sharding = NamedSharding(self.mesh, spec_for(("batch",), DECODE_RULES))
        return Prompts(*spread(arrays, sharding))


def bucket(length: int, longest: int) -> int:
    """Padded length: 32, 48, 64, 96, 128 .. up to `longest`, so that few shapes serve all."""
    size = SMALLEST_PROMPT
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return min(size, longest)


def _fetch(batch: list[Chunk[Tag]], drawn: Drawn) -> Iterator[Completion[Tag]]:
    """Waits for one batch and cuts its samples out."""
    drawn = jax.device_get(drawn)
    tokens, logprobs = np.asarray(drawn.tokens), np.asarray(drawn.logprobs)
    for i, chunk in enumerate(batch):
        for j, number in enumerate(chunk.samples):
            n = int(drawn.lengths[i, j])
            yield Completion(
                chunk.request,
                number,
                tokens[i, j, :n],
                logprobs[i, j, :n],
                bool(drawn.done[i, j]),
            )
