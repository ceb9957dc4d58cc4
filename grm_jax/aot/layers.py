"""Models with fewer layers than they have, whose programs compile in a fraction of the time.

Prefill and decode are compiled layer by layer, which for a model of 61 layers takes the better part
of an hour. Layers that repeat cost the same each, so two short programs give a straight line to the
whole one. It is exact for operations and arguments. What is moved also depends on what the compiler
keeps in fast memory, so the programs must not be too short: 2 and 4 layers of Qwen3-32B miss a
quarter of the bytes that all 64 move, 8 and 12 a thousandth.
"""

from __future__ import annotations

import math
from dataclasses import replace

from grm_jax.models.config import Config
from grm_jax.models.spec import Segment

FIRST, MORE = 8, 4  # layers that repeat: in the shorter program, and how many more in the other


def shortened(config: Config) -> tuple[Config, Config]:
    """The same model twice, with fewer of the layers that repeat.

    Raises:
        ValueError: it has no more of them than that itself.
    """
    longest = repeated(config)
    period = len(longest.period)
    first = math.ceil(FIRST / period)
    turns = (first, first + math.ceil(MORE / period))
    if longest.repeats <= turns[1]:
        raise ValueError(
            f"extrapolate: the model repeats {longest.repeats * period} layers, and a straight "
            f"line through {turns[0] * period} and {turns[1] * period} needs more: compile it "
            "whole."
        )
    one, two = (
        replace(config, num_layers=config.num_layers - (longest.repeats - n) * period)
        for n in turns
    )
    return one, two


def repeated(config: Config) -> Segment:
    """The layers that come most often."""
    return max(config.spec.segments, key=lambda segment: segment.repeats * len(segment.period))
