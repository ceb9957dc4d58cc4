"""`grm bench`: the measurement that the options are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grm_jax.bench import decode, judging, training
from grm_jax.bench.config import JudgeBench, SamplerBench, TrainBench
from grm_jax.devices import say_devices

_RUN: dict[type, Callable[[Any], None]] = {
    SamplerBench: decode.run,
    JudgeBench: judging.run,
    TrainBench: training.run,
}


def run(command: SamplerBench | JudgeBench | TrainBench) -> None:
    """Measures, shows the table, writes the JSON."""
    say_devices(None)
    _RUN[type(command)](command)
