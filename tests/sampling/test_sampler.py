"""Batching never changes a sample: not its neighbours, not the order, not its place."""

import dataclasses

import jax
import numpy as np
import pytest

from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.sampling.request import Completion, Request
from grm_jax.sampling.sampler import Sampler
from grm_jax.sharding import DECODE_RULES, make_mesh, shardings_of

CONFIG = dataclasses.replace(
    PRESETS["tiny"], vocab_size=64, embed_dim=32, sliding_window=5, max_position=80
)


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    model = Model(CONFIG)
    params = model.init(jax.random.key(0))
    params = jax.tree.map(lambda w: w * 6 if w.ndim > 1 else w, params)
    return Sampler(model, params, stop_ids=[7, 9], max_new_tokens=10, slots=8, seed=3)


def _requests(count: int, k: int = 5) -> list[Request]:
    rng = np.random.default_rng(1)
    return [
        Request(rng.integers(10, 64, rng.integers(20, 45)).tolist(), item, tuple(range(k)), item)
        for item in range(count)
    ]


def _by_name(completions: list[Completion]) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    found = {}
    for c in completions:
        assert (c.request.item, c.sample) not in found
        found[c.request.item, c.sample] = (c.tokens.tobytes(), c.logprobs.tobytes())
    return found


@pytest.mark.slow
def test_every_sample_comes_back_once(sampler: Sampler) -> None:
    requests = _requests(9, k=7)
    found = _by_name(list(sampler(requests)))
    assert set(found) == {(i, s) for i in range(9) for s in range(7)}
    texts = [found[0, s][0] for s in range(7)]
    assert len(set(texts)) > 1, "samples of one prompt differ"


def test_bits_do_not_depend_on_the_batch(sampler: Sampler) -> None:
    requests = _requests(12)
    together = _by_name(list(sampler(requests)))
    assert _by_name(list(sampler(requests[::-1]))) == together
    for alone in (requests[3], requests[7]):
        single = _by_name(list(sampler([alone])))
        assert single == {name: together[name] for name in single}
    doubled = [Request(r.tokens[::-1], r.item + 100, r.samples, r.tag) for r in requests] + requests
    crowd = _by_name(list(sampler(doubled)))
    assert {name: crowd[name] for name in together} == together


def test_a_sample_depends_on_seed_item_and_number(sampler: Sampler) -> None:
    request = _requests(1)[0]
    first = _by_name(list(sampler([request])))
    other_item = list(sampler([dataclasses.replace(request, item=77)]))
    other_seed = list(dataclasses.replace(sampler, seed=4)([request]))
    assert [c.tokens.tobytes() for c in other_item] != [t for t, _ in first.values()]
    assert [c.tokens.tobytes() for c in other_seed] != [t for t, _ in first.values()]
    # Sample number 4 is the same whether 0..3 are drawn with it or not: same chunk size, same bits.
    (lone,) = sampler([dataclasses.replace(request, samples=(4,))])
    assert (lone.tokens.tobytes(), lone.logprobs.tobytes()) == first[0, 4]


@pytest.mark.slow
def test_requests_are_read_as_a_stream(sampler: Sampler) -> None:
    """Reading stays a bounded distance ahead of what has come back, so memory stays flat."""
    read = 0

    def endless():
        nonlocal read
        for request in _requests(400, k=4):
            read += 1
            yield request

    for done, _ in enumerate(sampler(endless())):
        assert read * 4 - done <= 66 * 8 + 4 * 8
    assert read == 400


@pytest.mark.slow
@pytest.mark.parametrize("shape", [MeshConfig(8, 1, 1), MeshConfig(2, 2, 2)])
def test_a_mesh_draws_the_same_tokens(sampler: Sampler, shape: MeshConfig) -> None:
    mesh = make_mesh(shape)
    placed = jax.device_put(sampler.params, shardings_of(sampler.model.axes(), mesh, DECODE_RULES))
    spread = dataclasses.replace(sampler, params=placed, mesh=mesh)
    requests = _requests(6)
    single = {name: tokens for name, (tokens, _) in _by_name(list(sampler(requests))).items()}
    sharded = {name: tokens for name, (tokens, _) in _by_name(list(spread(requests))).items()}
    assert sharded == single


def test_refusals_name_value_limit_and_fix(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=r"71 tokens.*room for 70"):
        list(sampler([Request([11] * 71, 0, (0,))]))
    with pytest.raises(ValueError, match=r"slots is 0"):
        dataclasses.replace(sampler, slots=0)
    with pytest.raises(ValueError, match=r"max_new_tokens is 80.*1 to 79"):
        dataclasses.replace(sampler, max_new_tokens=80)
    with pytest.raises(ValueError, match=r"seed is -1"):
        dataclasses.replace(sampler, seed=-1)
    with pytest.raises(ValueError, match=r"multiple of 8"):
        dataclasses.replace(sampler, slots=4, mesh=make_mesh(MeshConfig(8, 1, 1)))


@pytest.mark.slow
def test_an_engine_is_kept_for_the_next_call(sampler: Sampler) -> None:
    fresh = dataclasses.replace(sampler, engines=[])
    list(fresh(_requests(2)))
    (engine,) = fresh.engines
    warmer = dataclasses.replace(fresh, seed=9)
    list(warmer(_requests(2)))
    assert warmer.engines == [engine]
    list(dataclasses.replace(fresh, slots=4)(_requests(2)))
    assert len(fresh.engines) == 2
    unfinished = iter(fresh(_requests(3)))
    next(unfinished)
    unfinished.close()
    assert engine not in fresh.engines
