"""`grm bench judge`: rows to judgments, with prompts and parsing; or, by a random model of a
size, the drawing alone, with lengths as real rows have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grm_jax.bench.config import JudgeBench
from grm_jax.bench.limits import measure_limits
from grm_jax.bench.report import Row, check_output, report
from grm_jax.bench.shapes import make_sampler, random_params, shape_of, slots_of
from grm_jax.bench.timing import time_calls
from grm_jax.bench.work import file_work
from grm_jax.data.config import WORLD, ItemsConfig
from grm_jax.data.items import load_items
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Sampled
from grm_jax.models.model import Model
from grm_jax.sampling.request import Request
from grm_jax.text.messages import Example

# Of 2,000 rows of LLMBar and RewardBench, judged by real models: the mean of critiques, whose
# lengths are close to geometric.
MEAN, LONGEST = 96, 512


def run(command: JudgeBench) -> None:
    """Measures, shows, writes."""
    output = check_output(command.output)
    if command.size is None:
        judge = Judge.load(command.model)
        limits = measure_limits(judge.folder.model.param_dtype)
        row = measure(judge, command)
    else:
        model = shape_of(command.size)
        limits = measure_limits(model.param_dtype)
        row = measure_random(model, command)
    report(command, [row], limits, output)
    print(f"{command.rows / row.timing.median:.2f} rows/s")


def measure(judge: Judge, command: JudgeBench) -> Row:
    """Judges held-out items of the small world."""
    return measure_items(judge, held_out(command.rows), command)


def held_out(count: int) -> list[Example]:
    """So many held-out items of the small world."""
    return load_items((ItemsConfig(WORLD, split="heldout", limit=count),), 0)


def measure_items(judge: Judge, items: Sequence[Example], command: JudgeBench) -> Row:
    """Judges these; tokens are those that were written."""
    judged: list[Sampled] = []

    def judge_all() -> None:
        answers = judge.sample_all(items, command.k)
        judged[:] = [answer for answer in answers if isinstance(answer, Sampled)]

    timing = time_calls(judge_all, command.repeats)
    written = sum(judgment.tokens for row in judged for judgment in row.judgments)
    prompts = [
        len(judge.prompt_tokens(row.example, order))
        for row in judged
        for order in {judgment.order for judgment in row.judgments}
    ]
    work = file_work(judge.folder.model, prompts, written, slots_of(judge.sampler))
    name = f"{command.model}: {len(items)} rows, k = {command.k}"
    return Row(name, written, timing, (work,))


def measure_random(model: Model, command: JudgeBench) -> Row:
    """Draws for rows of two responses: k samples over both orders, in 64 slots."""
    rng, vocabulary = np.random.default_rng(0), model.config.vocab_size
    longest = model.config.max_position - LONGEST
    prompts = np.clip(rng.lognormal(6.2, 0.6, command.rows), 64, longest).astype(int)
    # Random weights draw nearly every token as often as any other: each ends one in MEAN times.
    sampler = make_sampler(
        model,
        random_params(model),
        slots=64,
        new=LONGEST,
        stop_ids=list(range(vocabulary // MEAN)),
    )
    samples = tuple(range(command.k))
    requests = [
        Request(rng.integers(0, vocabulary, length).tolist(), item, part)
        for item, length in enumerate(prompts)
        for part in (samples[::2], samples[1::2])
        if part
    ]
    written = 0

    def draw() -> None:
        nonlocal written
        written = sum(len(completion.tokens) for completion in sampler(requests))

    timing = time_calls(draw, command.repeats)
    lengths = [len(request.tokens) for request in requests]
    work = file_work(model, lengths, written, slots_of(sampler))
    name = f"{command.size}: {command.rows} rows, k = {command.k}, geometric lengths"
    return Row(name, written, timing, (work,))
