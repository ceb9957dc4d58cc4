"""Compiles what a server will run, so that no request waits for a compiler."""

from __future__ import annotations

from collections.abc import Iterator

from grm_jax.bucket import bucket
from grm_jax.judging.grouping import Reading
from grm_jax.judging.judge import Judge
from grm_jax.judging.meta import MetaRM
from grm_jax.models.cache import FIRST_LENGTH
from grm_jax.sampling.request import Request

_ROOM = 64  # tokens of the meta RM's template around what the judge read


def warm_up(judge: Judge, longest_prompt: int) -> None:
    """Runs every program once: the engine's at each length that its rows can grow to, up to
    `longest_prompt` tokens, and the meta RM's at each length that it may have to read."""
    sampler = judge.sampler
    engine = sampler.engine()  # it grows, so it is not the one that serves
    engine.seed, engine.strategy = sampler.seed, sampler.strategy
    pad = judge.folder.tokenizer.eos_id
    for length in _lengths(longest_prompt):
        # One sample more than share a row: the program that copies rows is among them.
        samples = tuple(range(engine.size.places + 1))
        handle = engine.submit(Request([pad] * length, 0, samples))
        engine.step()
        engine.cancel(handle)
        while not engine.idle:
            engine.step()
    if judge.meta_rm is not None:
        _warm_up_meta(judge.meta_rm, longest_prompt + sampler.max_new_tokens + _ROOM)


def _lengths(longest: int) -> Iterator[int]:
    length = FIRST_LENGTH
    while length < longest:
        yield length
        length *= 2
    yield longest


def _warm_up_meta(meta: MetaRM, longest: int) -> None:
    longest, length = min(longest, meta.longest), 1
    while length <= longest:
        size = bucket(length, meta.longest)
        list(meta([(None, [Reading((meta.folder.tokenizer.eos_id,) * size)])]))
        length = size + 1
