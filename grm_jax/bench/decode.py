"""`grm bench sampler`: k samples of one prompt, against the least that decoding them takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grm_jax.bench.config import SamplerBench
from grm_jax.bench.limits import measure_limits
from grm_jax.bench.report import Row, check_output, report
from grm_jax.bench.shapes import make_sampler, random_params, shape_of
from grm_jax.bench.timing import time_calls
from grm_jax.bench.work import decode_work, prefill_work
from grm_jax.models.model import Model
from grm_jax.sampling.request import Request


def run(command: SamplerBench) -> None:
    """Measures, shows, writes."""
    output = check_output(command.output)
    model = shape_of(command.size)
    limits = measure_limits(model.param_dtype)
    report(command, [measure(model, command)], limits, output)


def measure(model: Model, command: SamplerBench) -> Row:
    """Draws `k` samples of `new` tokens in as many slots."""
    k, prompt, new = command.k, command.prompt, command.new
    config = replace(model.config, max_position=max(model.config.max_position, prompt + new + 1))
    model = replace(model, config=config)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, prompt).tolist()
    sampler = make_sampler(model, random_params(model), slots=k, new=new)
    request = Request(tokens, 0, tuple(range(k)))
    timing = time_calls(lambda: list(sampler([request])), command.repeats)
    phases = (prefill_work(model, prompt), decode_work(model, k, prompt, new))
    return Row(f"{command.size}: {k} samples, {prompt} + {new} tokens", k * new, timing, phases)
