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


def test_what_is_drawn_for_training_and_evaluation_is_what_it_always_was() -> None:
    def four(rng: np.random.Generator) -> list[int]:
        return rng.integers(100, size=4).tolist()

    assert four(randomness.pair_stream(0, randomness.item_key("a"))) == [98, 97, 72, 34]
    assert four(randomness.math_stream(0, 7)) == [79, 3, 22, 77]
    assert four(randomness.world_stream(0, 1, 2)) == [55, 88, 29, 28]
    assert four(randomness.world_stream(0, 1, 2, "lesson")) == [40, 56, 46, 86]
    assert four(randomness.world_stream(0, 1, 2, "critique")) == [63, 96, 81, 50]
    assert four(randomness.world_stream(0, 1, 2, "nothing")) == [58, 60, 90, 54]
    assert four(randomness.world_stream(0, 1, 2, "comparison")) == [22, 71, 99, 10]
    assert four(randomness.bootstrap_stream(0)) == [85, 63, 51, 26]
    assert randomness.choice_stream(8, 2).permutation(8).tolist() == [0, 7, 1, 5, 4, 6, 2, 3]
    assert randomness.stage_seed(0, "rft") == 971485836
    # "a" is 0xCA978112 of 2^32: 0.791.
    assert not randomness.in_share("a", 0.79)
    assert randomness.in_share("a", 0.8)


def test_a_key_is_folded_from_seed_item_and_sample() -> None:
    keys = randomness.token_keys(
        jnp.uint32(3), jnp.array([5, 6], jnp.uint32), jnp.array([[0, 1], [1, 2]], jnp.uint32)
    )
    names = [(5, 0), (5, 1), (6, 1), (6, 2)]
    for key, (item, sample) in zip(keys, names, strict=True):
        by_hand = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), item), sample)
        assert np.array_equal(jax.random.key_data(key), jax.random.key_data(by_hand))
