"""Attention in blocks of queries equals the whole product, and sees every key that it must."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.attention import (
    BLOCK,
    BLOCKS,
    attention,
    blockwise_attention,
    causal_attention,
    causal_mask,
    query_blocks,
)
from grm_jax.models.group_attention import group_attention

LENGTH = 300  # three blocks, the last one short
HEADS, KV_HEADS, SIZE = 4, 2, 8


def packed_rows(seed, rows=3):
    """Positions and segments of rows packed with segments, padding before, in and after them.

    Positions start anywhere and leave out some.
    """
    rng = np.random.default_rng(seed)
    positions = np.full((rows, LENGTH), -1, np.int32)
    segments = np.zeros((rows, LENGTH), np.int32)
    for row in range(rows):
        cuts = np.sort(rng.choice(np.arange(1, LENGTH), 3, replace=False))
        for number, at in enumerate(np.split(np.arange(LENGTH), cuts)[1:], 1):
            at = at[rng.random(len(at)) < 0.9]
            segments[row, at] = number
            positions[row, at] = rng.integers(0, 9) + np.cumsum(rng.integers(1, 3, len(at)))
    return jnp.asarray(positions), jnp.asarray(segments)


def errors(ours, mask, softcap, positions):
    """Largest errors, against the whole product, of the outputs and of the gradients for q, k, v:
    of the largest entry, and on real tokens only."""
    rng, shape = np.random.default_rng(1), (*positions.shape, HEADS, SIZE)
    q, direction = (rng.normal(size=shape).astype(np.float32) for _ in "qd")
    k, v = (rng.normal(size=(*shape[:2], KV_HEADS, SIZE)).astype(np.float32) for _ in "kv")
    real = (positions >= 0)[..., None, None]

    def run(attend):
        @jax.jit
        def both(q, k, v):
            out, pull = jax.vjp(attend, q, k, v)
            return jnp.where(real, out, 0), *pull(jnp.where(real, direction, 0))

        return both(q, k, v)

    found, wanted = run(ours), run(partial(attention, mask=mask, softcap=softcap))
    return [
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (40, 2.0), (200, None)])
def test_outputs_and_gradients_are_those_of_the_whole_product(window, softcap):
    positions, segments = packed_rows(0)
    ours = causal_attention(positions, segments, window=window, softcap=softcap)
    found = errors(ours, causal_mask(positions, window, segments), softcap, positions)
    assert max(found) < 1e-6, found


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (150, 2.0)])
def test_groups_are_those_of_the_whole_product(window, softcap):
    """A prompt of two blocks; three completions of two blocks each."""
    prompt, length = 150, 140
    row, part = np.full((2, prompt + 3 * length), -1, np.int32), np.zeros(prompt + 3 * length)
    for i, (own, lengths) in enumerate(((150, (140, 1, 129)), (90, (7, 0, 140)))):
        row[i, prompt - own : prompt] = np.arange(own)
        for j, count in enumerate(lengths):
            start = prompt + length * j
            row[i, start : start + count] = own + np.arange(count)
            part[start : start + length] = j + 1
    positions = jnp.asarray(row)
    mask = causal_mask(positions, window) & ((part == 0) | (part == part[:, None]))
    ours = group_attention(positions, prompt, 3, window=window, softcap=softcap)
    found = errors(ours, mask, softcap, positions)
    assert max(found) < 1e-6, found


@pytest.mark.parametrize("length", [1, BLOCK, BLOCK + 1, LENGTH, BLOCK * BLOCKS + 6])
def test_every_query_sees_all_keys_up_to_itself_and_no_other(length):
    """Where all logits are equal and each key's value names it, the output is who is seen."""
    causal = np.tril(np.ones((length, length), bool))
    nothing, names = jnp.zeros((1, length, 1, 1)), jnp.eye(length)[None, :, None]
    seen = blockwise_attention(nothing, nothing, names, jnp.asarray(causal)[None], None)[0, :, 0]
    np.testing.assert_array_equal(np.asarray(seen) > 0, causal)


@pytest.mark.parametrize("length", [BLOCK, BLOCK + 1, 5 * BLOCK, BLOCK * BLOCKS + 1, 4096])
def test_blocks_are_few_and_leave_out_much(length):
    blocks = query_blocks(length)
    assert np.concatenate([np.arange(length)[block] for block in blocks]).tolist() == list(
        range(length)
    )
    assert len(blocks) <= BLOCKS
    assert (len(blocks) == 1) == (length <= BLOCK)
    if length >= 5 * BLOCK:
        pairs = sum((block.stop - block.start) * block.stop for block in blocks)
        assert pairs <= 0.63 * length**2
