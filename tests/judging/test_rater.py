"""Scores of readings that share prompts: those of each sequence alone, and each prompt run once."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from grm_jax.judging.grouping import Reading
from grm_jax.judging.rater import Rater
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.sharding import DECODE_RULES, make_mesh, shardings_of

VOCAB, LENGTH = 64, 128
# A window shorter than the prompts, and soft caps that are felt.
CONFIG = Gemma2Config(
    VOCAB, 4, 16, 24, 4, 2, 8, 6.0, sliding_window=12, attn_logit_softcap=2.0, max_position=LENGTH
)
MODEL = Model(CONFIG, "scalar")


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda p: 12 * p, jax.jit(MODEL.init)(jax.random.key(1)))


def make(params, mesh=None, slots=8):
    return Rater(SimpleNamespace(path=Path("r"), model=MODEL, params=params, mesh=mesh), slots)


@pytest.fixture(scope="module")
def rater(params):
    return make(params)


@pytest.fixture(scope="module")
def requests():
    """Prompts with up to seven completions; some of them empty, some by themselves."""
    rng = np.random.default_rng(0)

    def ids(n):
        return tuple(rng.integers(1, VOCAB, n).tolist())

    def readings(prompt, *completions):
        front = ids(prompt)
        return [Reading(front, ids(n)) for n in completions]

    return [
        ("a", [*readings(50, 0, 3, 9, 17, 30, 31, 12), *readings(40, 20, 8)]),
        ("b", readings(60, 5, 25, 26)),
        ("c", [*readings(20, 8), *readings(45, 30, 11)]),
        ("d", readings(33, 1, 2, 3, 4, 5)),
    ]


@pytest.fixture(scope="module")
def alone(params):
    """The score of one sequence without any batch around it, or any prompt shared."""

    @jax.jit
    def plain(tokens, positions):
        return MODEL.score(params, MODEL.hidden(params, tokens, positions), positions)[0]

    def score(reading):
        tokens, positions = np.zeros((1, LENGTH), np.int32), np.full((1, LENGTH), -1, np.int32)
        tokens[0, : reading.length] = reading.tokens
        positions[0, : reading.length] = np.arange(reading.length)
        return float(plain(tokens, positions))

    return score


@pytest.mark.slow
def test_scores_are_those_of_each_sequence_alone(rater, requests, alone):
    for tag, found in rater(requests):
        wanted = [alone(reading) for reading in dict(requests)[tag]]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_bits_do_not_depend_on_other_requests_and_prompts(rater, requests):
    whole = dict(rater(requests))
    assert dict(rater(reversed(requests))) == whole
    for tag, readings in requests:
        assert dict(rater([(tag, readings)])) == {tag: whole[tag]}
    first = requests[0][1]
    assert dict(rater([("x", first[7:])]))["x"] == whole["a"][7:]


def test_a_prompt_is_run_once_for_four_completions(rater, requests, monkeypatch):
    """Of shapes S, G, T; as many rows as slots have room for."""
    shapes, compute = [], Rater.compute

    def watched(self, *arrays):
        shapes.append((*arrays[0].shape, *arrays[2].shape[1:]))
        return compute(self, *arrays)

    monkeypatch.setattr(Rater, "compute", watched)
    ((_, found),) = rater([("b", requests[1][1])])
    assert shapes == [(2, 64, 4, 32)]
    assert len(found) == 3


def test_what_is_too_long_has_no_score_and_leaves_the_others_theirs(rater, requests):
    readings = requests[1][1]
    long = Reading(readings[0].prompt, (1,) * (LENGTH - 59))
    ((_, found),) = rater([("b", [*readings, long])])
    ((_, wanted),) = rater([("b", readings)])
    assert found == [*wanted, None]


def test_a_mesh_changes_nothing_but_rounding(rater, params, requests):
    mesh = make_mesh(MeshConfig(2, 1, 2), jax.devices()[:4])
    placed = jax.device_put(params, shardings_of(MODEL.axes(), mesh, DECODE_RULES))
    wanted = dict(rater(requests[1:2]))["b"]
    for slots, groups in ((8, (1, 2, 4)), (2, (1,))):
        spread = make(placed, mesh, slots)
        assert spread.groups == groups
        if slots == 8:
            found = dict(spread(requests[1:2]))["b"]
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
