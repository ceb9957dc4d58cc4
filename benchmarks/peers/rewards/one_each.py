"""The functions that verl, OpenRLHF and AReaL import from a file of the user's."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from benchmarks.peers.rewards import shared
from grm_jax.rewards import JudgeReward

LOADING = threading.Lock()  # OpenRLHF calls from threads, which must meet at one reward


def reward() -> JudgeReward:
    """Loaded in the process that first asks for a reward, and once there."""
    with LOADING:
        return loaded()


@cache
def loaded() -> JudgeReward:
    """The reward itself."""
    return shared.judge_reward(cohort=shared.GROUP, wait=300)


async def compute_score(**asked: Any) -> dict[str, float]:
    """verl's."""
    return await reward().verl_async(**asked)


def compute_scores(**asked: Any) -> list[dict[str, float]]:
    """verl's, of a batch."""
    return reward().verl_batch(**asked)


def reward_func(queries: list[str], prompts: list[str], labels: list[Any]) -> dict[str, Any]:
    """OpenRLHF's."""
    return reward().openrlhf(queries, prompts, labels)


def areal_reward(prompt: str, completions: str, *ids: Any, **data: Any) -> float:
    """AReaL's."""
    return reward().areal(prompt, completions, *ids, **data)
