"""A step's responses through AReaL's `AsyncRewardWrapper`, which sends them to another process.

The rest of AReaL needs GPUs: of its wheel this takes the one module that calls reward functions,
with the standard library's logging in the place of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from importlib.metadata import files
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.peers.rewards import one_each, shared


def reward_api() -> Any:
    """`areal.api.reward_api`, without what `import areal` brings."""
    utils = ModuleType("areal.utils")
    utils.logging = logging  # type: ignore[attr-defined]
    sys.modules |= {"areal": ModuleType("areal"), "areal.utils": utils}
    (path,) = (f.locate() for f in files("areal") or () if str(f) == "areal/api/reward_api.py")
    spec = importlib.util.spec_from_file_location("areal.api.reward_api", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """One response at a time, as its workflows do."""
    # By default it waits for 15 seconds, four times, and then takes 0 for the reward.
    wrapped = reward_api().AsyncRewardWrapper(one_each.areal_reward, timeout_seconds=600)
    rng = np.random.default_rng(0)
    questions = [shared.QUESTIONS[i // 2] for i in range(4)]
    answers = [str(number) for number in rng.integers(10, 99, len(questions))]

    async def rewards() -> list[float]:
        prompts = [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in questions]
        calls = (
            wrapped(prompt, f"{answer}<|im_end|>", [1], [2], level="easy")
            for prompt, answer in zip(prompts, answers, strict=True)
        )
        return await asyncio.gather(*calls)

    shared.hand_over("areal", questions, answers, asyncio.run(rewards()), 1)


if __name__ == "__main__":
    main()
