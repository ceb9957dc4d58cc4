"""The least work of a job: against sums that are written out one by one."""

from __future__ import annotations

import pytest

from grm_jax.bench.limits import Limits, measure_limits
from grm_jax.bench.work import (
    Work,
    completions_work,
    decode_work,
    file_work,
    floor_seconds,
    prefill_work,
    seen,
    sft_work,
)
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model

MODEL = Model(Gemma2Config(64, 4, 16, 32, 4, 2, 8, 8.0, sliding_window=5, max_position=64))
HEAD = 64 * 16
TRUNK = MODEL.num_params() - HEAD
PAIR = 2 * 4 * 8  # multiply-adds of a query with a key and its value, over all heads
SLOT = 2 * 2 * 8 * 4  # bytes of a key and a value in one layer


def keys(position: int) -> list[int]:
    """How many keys a query sees in each of the four layers."""
    return [min(position + 1, 5), position + 1] * 2


def test_pairs_are_those_within_the_window_and_before_the_query() -> None:
    assert seen(MODEL, 3, 9) == sum(sum(keys(position)) for position in range(3, 9))


@pytest.mark.parametrize(("k", "prompt", "new"), [(1, 3, 4), (3, 12, 9), (2, 4, 1)])
def test_decoding_reads_the_prompt_once_and_each_samples_own_for_itself(k, prompt, new) -> None:
    read = flops = 0
    for position in range(prompt, prompt + new - 1):
        read += 4 * MODEL.num_params()
        flops += k * 2 * (TRUNK + HEAD + PAIR * sum(keys(position)))
        own = position + 1 - prompt
        for seen_keys in keys(position):
            read += SLOT * (max(seen_keys - own, 0) + k * min(own, seen_keys))
    work = decode_work(MODEL, k, prompt, new)
    assert work.bytes == read
    assert work.flops == flops


def test_a_group_costs_its_prompt_once() -> None:
    one = completions_work(MODEL, 1, 1, prompt=20, new=6)
    four = completions_work(MODEL, 1, 4, prompt=20, new=6)
    prompt = 2 * (20 * TRUNK + PAIR * seen(MODEL, 0, 20))
    assert 4 * one.flops - four.flops == pytest.approx(3 * 3 * prompt)
    assert one.bytes == four.bytes
    # Where all tokens are learned, only the logits of the prompt are more.
    more = sft_work(MODEL, 1, 26).flops - one.flops
    last = TRUNK + PAIR * sum(keys(25))  # a row's last token, which nothing is learned after
    assert more == pytest.approx(3 * 2 * (19 * HEAD + last))


def test_the_floor_is_the_longer_time_of_each_phase() -> None:
    limits = Limits(bandwidth=10.0, flops=100.0)
    phases = (Work(bytes=10.0, flops=50.0), Work(bytes=1.0, flops=300.0))
    assert floor_seconds(phases, limits) == 1.0 + 3.0
    assert prefill_work(MODEL, 7).bytes == 4 * MODEL.num_params() + SLOT * 2 * (7 + 5)
    assert file_work(MODEL, [7, 9], 100, 8).flops > file_work(MODEL, [7], 100, 8).flops > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_limits_are_measured_here(dtype: str) -> None:
    limits = measure_limits(dtype, large=(2**16, 32, 2))
    assert limits.bandwidth > 0
    assert limits.flops > 0
