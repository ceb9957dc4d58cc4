"""`grm bench train`: updates of SFT, RFT and GRPO, against the arithmetic that they need."""

from __future__ import annotations

from grm_jax.bench.config import Stage, TrainBench
from grm_jax.bench.limits import measure_limits
from grm_jax.bench.report import Row, check_output, report
from grm_jax.bench.shapes import random_params, shape_of
from grm_jax.bench.timing import time_calls
from grm_jax.bench.updates import draw_tokens, make_update
from grm_jax.bench.work import Work, completions_work, sft_work
from grm_jax.models.model import Model


def run(command: TrainBench) -> None:
    """Measures, shows, writes."""
    output = check_output(command.output)
    model = shape_of(command.size, training=True)
    limits = measure_limits(model.dtype)
    rows = [measure(model, command, stage) for stage in command.stages]
    report(command, rows, limits, output)


def measure(model: Model, command: TrainBench, stage: Stage) -> Row:
    """Updates the same random weights again and again; tokens are those of all rows."""
    sizes = (command.prompts, command.group, command.prompt, command.new)
    written = draw_tokens(model.config.vocab_size, *sizes)
    update = make_update(stage, model, random_params(model), written, remat=command.remat)
    timing = time_calls(update, command.repeats)
    rows = command.prompts * command.group
    name = f"{stage}: {rows} rows of {command.prompt} + {command.new} tokens"
    tokens = rows * (command.prompt + command.new)
    return Row(name, tokens, timing, (least(model, command, stage),))


def least(model: Model, command: TrainBench, stage: Stage) -> Work:
    """What the update needs: prompts once per group, but where their tokens are learned as well."""
    if stage == "sft":
        return sft_work(model, command.prompts * command.group, command.prompt + command.new)
    return completions_work(model, command.prompts, command.group, command.prompt, command.new)
