"""`Rater`: scores of token sequences by a model with a scalar head, batched and bit-stable.

`Reader` is what it has in common with whatever else runs a model once over many sequences.
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

from grm_jax.bucket import bucket
from grm_jax.judging.folder import ModelFolder
from grm_jax.judging.pending import Pending
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.processes import everywhere, spread
from grm_jax.sharding import DECODE_RULES, spec_for

T = TypeVar("T")
R = TypeVar("R")  # the result of one sequence
Tokens = tuple[int, ...]
NOT_FINITE = (
    "a score that {} gives this row is not finite (NaN or inf): try --dtype float32, or another "
    "checkpoint."
)


@dataclass
class _Asked(Generic[T]):
    """A request: the caller's tag, and the sequences that it wants, of which some may not fit."""

    tag: T
    wanted: Sequence[Tokens]


# A sequence that is to be read, and the request that it belongs to.
_Row = tuple[Pending[_Asked[T], Tokens, R], Tokens]


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

    def compute(self, tokens: Array, positions: Array) -> Array:
        """Starts the program on right-padded rows [B, T]; it gives an R for each row [B, ..]."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Tokens that a sequence may have."""
        return self.folder.model.config.max_position

    def __call__(
        self, requests: Iterable[tuple[T, Sequence[Tokens]]]
    ) -> Iterator[tuple[T, list[R | None]]]:
        """(tag, sequences) in, (tag, the result of each sequence) out, None where it is too long.

        Yields in the order in which requests are finished; one without sequences at once. A result
        has the same bits whatever else is read: rows of one padded length share a batch that is
        always full-sized. A sequence that comes several times in a request is read once.
        """
        queues: dict[int, list[_Row[T, R]]] = {}
        in_flight: deque[tuple[list[_Row[T, R]], Array]] = deque()
        for tag, wanted in requests:
            fitting = tuple(ids for ids in dict.fromkeys(wanted) if len(ids) <= self.longest)
            pending = Pending[_Asked[T], Tokens, R](_Asked(tag, wanted), fitting)
            if not fitting:
                yield _results(pending)
            for ids in fitting:
                size = bucket(len(ids), self.longest)
                queue = queues.setdefault(size, [])
                queue.append((pending, ids))
                if len(queue) == self.slots:
                    batch = queues.pop(size)
                    in_flight.append((batch, self._dispatch(size, batch)))
                    if len(in_flight) > 1:
                        yield from _fetch(*in_flight.popleft())
        in_flight.extend((batch, self._dispatch(size, batch)) for size, batch in queues.items())
        while in_flight:
            yield from _fetch(*in_flight.popleft())

    def _dispatch(self, size: int, batch: list[_Row[T, R]]) -> Array:
        """Starts one program on a full-sized batch; returns at once with results to come."""
        tokens = np.zeros((self.slots, size), np.int32)
        positions = np.full((self.slots, size), -1, np.int32)
        positions[:, 0] = 0  # an unused row is one padding token, so that nothing is empty
        for row, (_, ids) in enumerate(batch):
            tokens[row, : len(ids)] = ids
            positions[row, : len(ids)] = np.arange(len(ids))
        mesh = self.folder.mesh
        if mesh is None:
            arrays = (jnp.asarray(tokens), jnp.asarray(positions))
        else:
            sharding = NamedSharding(mesh, spec_for(("batch",), DECODE_RULES))
            arrays = spread((tokens, positions), sharding)
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

    def compute(self, tokens: Array, positions: Array) -> Array:
        """The raw logit of each row, [B]."""
        return _PROGRAM(self.folder.model, self.folder.params, tokens, positions)


def rate(
    model: Model, params: Params, tokens: Int[Array, "B T"], positions: Int[Array, "B T"]
) -> Float[Array, " B"]:
    """The raw logit of each right-padded row."""
    return model.score(params, model.hidden(params, tokens, positions), positions)


_PROGRAM = jax.jit(rate, static_argnums=0)


def _fetch(batch: list[_Row[T, R]], results: Array) -> Iterator[tuple[T, list[R | None]]]:
    """Waits for one batch; yields the requests of which it was the last."""
    for (pending, ids), result in zip(batch, np.asarray(results).tolist(), strict=False):
        if pending.add(ids, result):
            yield _results(pending)


def _results(pending: Pending[_Asked[T], Tokens, R]) -> tuple[T, list[R | None]]:
    return pending.owner.tag, [pending.parts.get(ids) for ids in pending.owner.wanted]
