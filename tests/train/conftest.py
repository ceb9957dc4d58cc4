"""A model of a few thousand numbers, and batches for it, shared by the tests of training."""

import jax
import numpy as np
import pytest

from grm_jax.data.pipeline import Batch
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model

VOCAB = 32


@pytest.fixture(scope="session")
def model():
    # Every dimension that a rule splits is divisible by 2 and 4.
    return Model(Gemma2Config(VOCAB, 2, 16, 32, 4, 2, 4, 4.0, sliding_window=4, max_position=64))


@pytest.fixture(scope="session")
def params(model):
    return jax.jit(model.init)(jax.random.key(0))


@pytest.fixture(scope="session")
def make_batch():
    """make_batch(seed) -> Batch [8, 12] of packed segments, some padding, uneven masks."""

    def make(seed, rows=8, length=12):
        rng = np.random.default_rng(seed)
        ids = rng.integers(0, VOCAB, (rows, length + 1)).astype(np.int32)
        positions = np.full((rows, length), -1, np.int32)
        segments = np.zeros((rows, length), np.int32)
        for row in range(rows):
            cut, end = sorted(rng.choice(np.arange(1, length + 1), 2, replace=False))
            positions[row, :cut], positions[row, cut:end] = np.arange(cut), np.arange(end - cut)
            segments[row, :cut], segments[row, cut:end] = 1, 2
        mask = (rng.random((rows, length)) < rng.random((rows, 1))) & (segments > 0)
        return Batch(ids[:, :-1], ids[:, 1:], mask, positions, segments, np.zeros(rows, np.int32))

    return make
