"""The caches of prompts: each token in its slot, whatever pieces it came in."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models import cache as kv
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model

PADDING = -7.0


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    ("window", "piece", "length"),
    [
        (5, 4, 23),  # goes round in the midst of a piece
        (8, 4, 23),
        (48, 64, 200),  # a piece is longer than the window
        (100, 64, 300),
        (700, 64, 1100),  # a ring of two chunks
        (768, 256, 1100),
    ],
)
def test_every_token_is_kept_in_its_slot(window: int, piece: int, length: int, lanes: int) -> None:
    config = dataclasses.replace(PRESETS["tiny"], sliding_window=window, num_layers=2)
    spec = Model(config).spec
    cache = kv.empty_prompts(spec, lanes, 3, length, "float32")
    heads, width = config.num_kv_heads, config.head_dim
    row, ends = jnp.arange(lanes) + 1, [length - 9 * lane for lane in range(lanes)]
    for start in range(0, length, piece):
        count = np.clip(np.subtract(ends, start), 0, piece)
        index = np.arange(piece)
        values = np.where(index < count[:, None], start + index + 1.0, PADDING)
        each = jnp.broadcast_to(values[:, None, :, None], (lanes, heads, piece, width))
        made = kv.SampleCache(tuple(kv.KeysValues(each, -each) for _ in spec.layers))
        where = jnp.full((lanes,), start), jnp.asarray(count)
        cache = kv.write_prompt(cache, made, row, *where, spec.windows)
    for chunks, limit in zip(cache.layers, spec.windows, strict=True):
        ring = kv.ring_of(chunks, limit)
        keys, minus = (
            np.concatenate([np.asarray(chunk[part]) for chunk in chunks], axis=3) for part in (0, 1)
        )
        np.testing.assert_array_equal(keys, -minus)
        for lane, end in enumerate(ends):
            kept = np.zeros(keys.shape[3])
            for position in range(end):
                kept[position % ring] = position + 1
            expected = np.zeros(keys.shape[1:])
            expected[int(row[lane])] = kept[:, None]
            np.testing.assert_array_equal(keys[lane], expected)
