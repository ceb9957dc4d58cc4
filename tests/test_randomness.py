"""Random streams: the same numbers in every version, and no two streams alike."""

import jax
import jax.numpy as jnp
import numpy as np

from grm_jax import randomness


def test_the_streams_are_what_they_always_were() -> None:
    item = randomness.item_key("a")
    assert item == 0xCA978112  # the beginning of its SHA-256
    orders = [randomness.response_order(0, item, sample, 4) for sample in range(3)]
    assert orders == [(0, 3, 2, 1), (0, 2, 1, 3), (0, 2, 1, 3)]
    assert randomness.tie_stream(0, item).permutation(5).tolist() == [4, 3, 0, 1, 2]
    assert randomness.request_seed(0, item, 1) == 480289244
    assert randomness.answer_seed(0, item, 1) == 910088412


def test_a_key_is_folded_from_seed_item_and_sample() -> None:
    keys = randomness.token_keys(
        jnp.uint32(3), jnp.array([5, 6], jnp.uint32), jnp.array([[0, 1], [1, 2]], jnp.uint32)
    )
    names = [(5, 0), (5, 1), (6, 1), (6, 2)]
    for key, (item, sample) in zip(keys, names, strict=True):
        by_hand = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), item), sample)
        assert np.array_equal(jax.random.key_data(key), jax.random.key_data(by_hand))
