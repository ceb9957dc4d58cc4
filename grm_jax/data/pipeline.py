"""Grain pipelines: rows into fixed [B, T] batches, packed, shuffled, resumable.

Order, shuffle and mix follow from the seed alone; the iterator's state is a few integers, which
the trainer saves in the same checkpoint as the weights, so a resumed run sees the rows it would
have seen. Threads prepare rows ahead of the device; no processes are started.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import grain
import numpy as np

from grm_jax.data.config import BatchConfig

# A source in which so many rows in a row do not fit will not start to fit later.
HOPELESS = 10_000

T_co = TypeVar("T_co", covariant=True)


class RandomAccess(Protocol[T_co]):
    """What Grain reads from: a length, and an item for each index below it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> T_co: ...


class TokenRow(NamedTuple):
    """One sequence: int32 ids [n], and True [n] on those the model is to learn to write.

    `targets` [n - 1] are what is to be learned after each token, where that is not the next token.
    """

    ids: np.ndarray
    learn: np.ndarray
    targets: np.ndarray | None = None


class Batch(NamedTuple):
    """Fixed shapes, whatever the rows: B rows of T tokens; each may hold several segments.

    `targets[b, t]` is the token after `tokens[b, t]` in its segment; `mask` is True where it
    counts. `positions` restart in each segment and are -1 on padding; `segments` count from 1
    and are 0 on padding. `too_long` [B] counts the source rows that were left out.
    """

    tokens: Any
    targets: Any
    mask: Any
    positions: Any
    segments: Any
    too_long: Any


def make_stream(
    sources: Sequence[tuple[RandomAccess[TokenRow], float]],
    batch: BatchConfig,
    *,
    seed: int,
    threads: int = 2,
) -> grain.DatasetIterator[Batch]:
    """An endless iterator of batches, with `get_state`, `set_state`.

    It is the same in every process of a job: which rows share a batch follows from the lengths of
    all rows before, so that a share of its own for each process would make another run of the same
    job on more or fewer processes. The price is that each reads and tokenises all rows.

    Args:
        sources: (rows, weight): a row comes from a source with its share of the weights. Each
            source is shuffled anew for every pass over it.
        batch: the global shape.
        seed: of the shuffle.
        threads: that prepare rows.

    Raises:
        ValueError: no source, an empty one, a weight that is not positive, or (while iterating) a
            source whose rows never fit.
    """
    if not sources:
        raise ValueError("no source of rows: give at least one.")
    for rows, weight in sources:
        if not len(rows) or weight <= 0:
            raise ValueError(
                f"a source has {len(rows)} rows and weight {weight}: both must be more than 0."
            )
    shuffled = [
        grain.MapDataset.source(rows).seed(seed + i).shuffle().repeat()
        for i, (rows, _) in enumerate(sources)
    ]
    mixed = grain.MapDataset.mix(shuffled, weights=[float(weight) for _, weight in sources])
    rows = mixed.map(_shift)
    fitting = _FittingRows(rows.to_iter_dataset(grain.ReadOptions(threads, 64)), batch.length)
    packed = grain.experimental.FirstFitPackIterDataset(
        fitting,
        length_struct=dict.fromkeys(("tokens", "targets", "mask", "too_long"), batch.length),
        num_packing_bins=batch.sequences,
        shuffle_bins=False,
        max_sequences_per_bin=None if batch.pack else 1,
    )
    batches = packed.batch(batch.sequences, drop_remainder=True).map(_finish)
    return iter(grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=2))


def _shift(row: TokenRow) -> dict[str, np.ndarray]:
    """Inputs and targets, cut before packing so that no target reaches into the next segment."""
    return {
        "tokens": row.ids[:-1].astype(np.int32),
        "targets": (row.ids[1:] if row.targets is None else row.targets).astype(np.int32),
        "mask": row.learn[1:].astype(np.bool_),
        "too_long": np.zeros(len(row.ids) - 1, np.int32),
    }


def _finish(packed: dict[str, np.ndarray]) -> Batch:
    segments = packed["tokens_segment_ids"]
    return Batch(
        tokens=packed["tokens"],
        targets=packed["targets"],
        mask=packed["mask"],
        positions=np.where(segments > 0, packed["tokens_positions"], -1).astype(np.int32),
        segments=segments,
        too_long=packed["too_long"].sum(axis=1, dtype=np.int32),
    )


class _FittingRows(grain.IterDataset):
    """Leaves out rows that are too long, and writes on the next one how many there were.

    The count travels with the data, so that it is exact in every batch and after every resume;
    a counter beside the pipeline would run ahead of it.
    """

    def __init__(self, parent: grain.IterDataset, length: int):
        super().__init__(parent)
        self.length = length

    def __iter__(self) -> grain.DatasetIterator:
        return _FittingRowsIterator(iter(self._parent), self.length)


class _FittingRowsIterator(grain.DatasetIterator):
    def __init__(self, parent: grain.DatasetIterator, length: int):
        super().__init__(parent)
        self.length = length

    def __next__(self) -> dict[str, np.ndarray]:
        for dropped in range(HOPELESS):
            row = next(self._parent)
            if len(row["tokens"]) <= self.length:
                row["too_long"][:1] = dropped
                return row
        raise ValueError(
            f"{HOPELESS} rows in succession are longer than batch.length = {self.length} tokens; "
            f"the last one has {len(row['tokens'])}: raise batch.length or shorten the rows."
        )

    def get_state(self) -> dict[str, Any]:
        return self._parent.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state)
