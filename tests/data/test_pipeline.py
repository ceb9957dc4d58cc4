"""The stream of batches: what is in them, in which order, and that it can be picked up again."""

import json

import numpy as np
import pytest

from grm_jax.data import pipeline
from grm_jax.data.config import BatchConfig
from grm_jax.data.pipeline import Batch, TokenRow, make_stream

SMALL = BatchConfig(4, 16)


class Rows:
    """Row i is `first + i` repeated, 2 to 9 tokens, ended by a 0: tokens name their row."""

    def __init__(self, count, first=1, long=()):
        self.count, self.first, self.long = count, first, long

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        length = 40 if index in self.long else 2 + index % 8
        ids = np.array([self.first + index] * length + [0], np.int32)
        return TokenRow(ids, np.arange(length + 1) >= length // 2)


@pytest.fixture
def stream():
    opened = []

    def open_stream(sources, batch=SMALL, seed=0, **options):
        if not isinstance(sources, list):
            sources = [(sources, 1.0)]
        opened.append(make_stream(sources, batch, seed=seed, **options))
        return opened[-1]

    yield open_stream
    for iterator in opened:
        iterator.close()


def segments_of(batch: Batch):
    """(tokens, targets, mask, positions) of each segment, in order."""
    for row in range(batch.tokens.shape[0]):
        for segment in range(1, batch.segments[row].max() + 1):
            here = batch.segments[row] == segment
            yield tuple(x[row][here] for x in (batch[0], batch[1], batch[2], batch[3]))


def names(batches):
    """The first token, which names the row, of every segment."""
    return [int(tokens[0]) for batch in batches for tokens, *_ in segments_of(batch)]


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize("pack", [True, False])
def test_rows_come_whole_shifted_and_apart(stream, pack):
    rows = Rows(30)
    for batch in take(stream(rows, BatchConfig(4, 16, pack)), 5):
        assert batch.tokens.shape == batch.targets.shape == batch.mask.shape == (4, 16)
        for tokens, targets, mask, positions in segments_of(batch):
            row = rows[int(tokens[0]) - 1]
            np.testing.assert_array_equal(tokens, row.ids[:-1])
            np.testing.assert_array_equal(targets, row.ids[1:])
            np.testing.assert_array_equal(mask, row.learn[1:])
            np.testing.assert_array_equal(positions, np.arange(len(tokens)))
        padding = batch.segments == 0
        assert (batch.positions[padding] == -1).all()
        assert not batch.mask[padding].any()
        assert (batch.segments.max(axis=1) > 1).any() == pack


def test_a_pass_holds_every_row_once_and_the_next_is_in_another_order(stream):
    # Not packed, where segments stand in the order in which they were read.
    order = names(take(stream(Rows(40), BatchConfig(4, 16, pack=False)), 20))
    first, second = order[:40], order[40:80]
    assert sorted(first) == sorted(second) == list(range(1, 41))
    assert first != second
    assert first != sorted(first)


def test_the_order_follows_from_the_seed(stream):
    order = names(take(stream(Rows(40), seed=1), 3))
    assert names(take(stream(Rows(40), seed=1), 3)) == order
    assert names(take(stream(Rows(40), seed=2), 3)) != order


@pytest.mark.parametrize("done", [0, 1, 5, 12])
def test_a_saved_state_goes_on_with_the_same_batches(stream, done):
    sources = [(Rows(23, long=(4,)), 1.0), (Rows(17, first=100), 2.0)]
    iterator = stream(sources)
    take(iterator, done)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 6)
    resumed = stream(sources)
    resumed.set_state(state)
    for got, wanted in zip(take(resumed, 6), expected, strict=True):
        for left, right in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(left, right)


def test_too_long_rows_are_left_out_and_counted(stream):
    long = (3, 11, 12)
    seen, batches = [], stream(Rows(20, long=long))
    counted = 0
    while len(seen) < 2 * 17:
        batch = next(batches)
        seen += names([batch])
        counted += int(batch.too_long.sum())
    assert not set(seen) & {i + 1 for i in long}
    assert 2 * len(long) - 1 <= counted <= 3 * len(long)  # a third pass may have begun


def test_a_source_of_nothing_but_long_rows_says_so(stream, monkeypatch):
    monkeypatch.setattr(pipeline, "HOPELESS", 20)
    with pytest.raises(ValueError, match=r"longer than batch.length = 16 tokens.*has 40"):
        next(stream(Rows(5, long=range(5))))


def test_sources_come_in_the_ratio_of_their_weights(stream):
    order = names(take(stream([(Rows(50), 3.0), (Rows(50, first=100), 1.0)]), 40))
    share = np.mean([name >= 100 for name in order])
    assert abs(share - 0.25) < 0.02


def test_what_makes_no_stream_is_refused():
    for sources, message in (
        ([], "no source"),
        ([(Rows(0), 1.0)], "has 0 rows"),
        ([(Rows(4), 0.0)], r"weight 0\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_stream(sources, BatchConfig(), seed=0)
    with pytest.raises(ValueError, match=r"batch\.length is 0"):
        BatchConfig(length=0)
