"""`Rater`: scores of token sequences by a model with a scalar head, batched and bit-stable.

`Reader` is what it has in common with whatever else runs a model once over many sequences.
Letters: P rows, S prompt, G completions of a row, T time, D model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from grm_jax.judging.folder import ModelFolder
from grm_jax.judging.grouping import GROUPS, Reading, Row, Shape, fill, rows
from grm_jax.judging.pending import Pending
from grm_jax.models import scalar_head
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.processes import everywhere, spread
from grm_jax.sharding import DECODE_RULES, spec_for

T = TypeVar("T")
R = TypeVar("R")  # the result of one reading
NOT_FINITE = (
    "a score that {} gives this row is not finite (NaN or inf): try --dtype float32, or another "
    "checkpoint."
)


@dataclass
class _Asked(Generic[T]):
    """A request: the caller's tag, and the readings that it wants, of which some may not fit."""

    tag: T
    wanted: Sequence[Reading]


# A row that is to be read, and the request that it belongs to.
_Place = tuple[Pending[_Asked[T], Reading, R], Row]


@dataclass
class Reader(Generic[R]):
    """A loaded model that reads sequences of tokens, each once and to the end.

    Args:
        folder: model, weights, tokenizer and templates.
        slots: sequences read at once: the speed and memory knob.

    Raises:
        ValueError: slots is not positive.
    """

    folder: ModelFolder
    slots: int = 64

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots is {self.slots}; at least one sequence must be read at once.")

    def compute(
        self, prompts: Array, prompt_positions: Array, tokens: Array, positions: Array
    ) -> Array:
        """Starts the program on rows as of `Grouped`; it gives an R for each completion [P, G, ..].

        A completion ends before T: where T - 1 of its tokens are real, the last is padding.
        """
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Tokens that a sequence may have."""
        return self.folder.model.config.max_position

    def __call__(
        self, requests: Iterable[tuple[T, Sequence[Reading]]]
    ) -> Iterator[tuple[T, list[R | None]]]:
        """(tag, readings) in, (tag, the result of each) out, None where one is too long.

        Yields in the order in which requests are finished; one without readings at once. A prompt
        that several readings of a request share is forwarded once for up to four of them. A result
        has the same bits whatever other requests, and other prompts of its own, are read: rows of
        one shape share a batch that is always full-sized. A reading that comes several times in a
        request is read once.
        """
        queues: dict[Shape, list[_Place[T, R]]] = {}
        in_flight: deque[tuple[list[_Place[T, R]], Array]] = deque()
        groups = self.groups
        for tag, wanted in requests:
            fitting = tuple(one for one in dict.fromkeys(wanted) if one.length <= self.longest)
            pending = Pending[_Asked[T], Reading, R](_Asked(tag, wanted), fitting)
            if not fitting:
                yield _results(pending)
            for row in rows(fitting, self.longest, groups):
                queue = queues.setdefault(row.shape, [])
                queue.append((pending, row))
                if len(queue) == self.slots // row.shape.group:
                    batch = queues.pop(row.shape)
                    in_flight.append((batch, self._dispatch(row.shape, batch)))
                    if len(in_flight) > 1:
                        yield from _fetch(*in_flight.popleft())
        in_flight.extend((batch, self._dispatch(shape, batch)) for shape, batch in queues.items())
        while in_flight:
            yield from _fetch(*in_flight.popleft())

    @property
    def groups(self) -> tuple[int, ...]:
        """How many completions a row may have, so that all devices have equally many rows."""
        slots, sharding = self.slots, self._sharding()
        if sharding is not None:
            (slots,) = sharding.shard_shape((self.slots,))
        return tuple(group for group in GROUPS if slots % group == 0)

    def _sharding(self) -> NamedSharding | None:
        """Of the rows; None on one device."""
        mesh = self.folder.mesh
        return None if mesh is None else NamedSharding(mesh, spec_for(("batch",), DECODE_RULES))

    def _dispatch(self, shape: Shape, batch: list[_Place[T, R]]) -> Array:
        """Starts one program on a full-sized batch; returns at once with results to come."""
        grouped = fill(shape, [row for _, row in batch], self.slots // shape.group)
        mesh, sharding = self.folder.mesh, self._sharding()
        if sharding is None:
            arrays = tuple(map(jnp.asarray, grouped))
        else:
            arrays = spread(tuple(grouped), sharding)
        with jax.set_mesh(mesh) if mesh else nullcontext():
            return everywhere(self.compute(*arrays), mesh)


@dataclass
class Rater(Reader[float]):
    """A loaded model that scores: one raw logit for each sequence.

    Raises:
        ValueError: the model writes instead of scoring, or slots is not positive.
    """

    def __post_init__(self) -> None:
        if self.folder.model.head != "scalar":
            raise ValueError(
                f"{self.folder.path} holds a model that writes; here one is needed that gives one "
                "score (Gemma2ForSequenceClassification): train it with `grm train meta-rm` or "
                "`grm train scalar`."
            )
        super().__post_init__()

    def compute(
        self, prompts: Array, prompt_positions: Array, tokens: Array, positions: Array
    ) -> Array:
        """The raw logits, [P, G]."""
        model, params = self.folder.model, self.folder.params
        return _PROGRAM(model, params, prompts, prompt_positions, tokens, positions)


def rate(
    model: Model,
    params: Params,
    prompts: Int[Array, "P S"],
    prompt_positions: Int[Array, "P S"],
    tokens: Int[Array, "P G T"],
    positions: Int[Array, "P G T"],
) -> Float[Array, "P G"]:
    """The raw logit of each completion of each prompt."""
    last = last_states(model, params, prompts, prompt_positions, tokens, positions)
    return scalar_head.score_all(params["score"], last)


_PROGRAM = jax.jit(rate, static_argnums=0)


def last_states(
    model: Model,
    params: Params,
    prompts: Int[Array, "P S"],
    prompt_positions: Int[Array, "P S"],
    tokens: Int[Array, "P G T"],
    positions: Int[Array, "P G T"],
) -> Float[Array, "P G D"]:
    """The state of each completion's last token; of its prompt's, where it is empty.

    Prompts are padded on the left, completions on the right by one token at least, which is the one
    that this state predicts. Positions are -1 on padding.
    """
    states = model.group_hidden(params, prompts, prompt_positions, tokens, positions)
    last = jnp.sum(positions >= 0, axis=-1)[..., None, None]
    return jnp.take_along_axis(states, last, axis=2)[:, :, 0]


def _fetch(batch: list[_Place[T, R]], results: Array) -> Iterator[tuple[T, list[R | None]]]:
    """Waits for one batch; yields the requests of which it had the last reading."""
    for (pending, row), found in zip(batch, np.asarray(results).tolist(), strict=False):
        done = [pending.add(*pair) for pair in zip(row.readings, found, strict=False)]
        if done[-1]:
            yield _results(pending)


def _results(pending: Pending[_Asked[T], Reading, R]) -> tuple[T, list[R | None]]:
    return pending.owner.tag, [pending.parts.get(reading) for reading in pending.owner.wanted]
