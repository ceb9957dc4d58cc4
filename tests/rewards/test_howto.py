"""What docs/howto/reward.md says to write works as it is written, as far as the trainer calls it.

The trainers themselves are stubs here; `make test-peers` runs the real ones.
"""

from __future__ import annotations

import asyncio
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import grm_jax
from grm_jax.judging.judgment import Refusal

PAGE = (Path(__file__).resolve().parents[2] / "docs/howto/reward.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    for section in re.split(r"^(?:# (?=A reward)|## )", PAGE, flags=re.M)[1:]
}


class Trainer:
    """Any of them, and its configuration: keeps what it is given."""

    def __init__(self, **settings: Any):
        self.settings = settings


def module(name: str) -> ModuleType:
    made = ModuleType(name)
    names = ("GRPOConfig", "GRPOTrainer", "GRPOLearner")
    vars(made).update(dict.fromkeys(names, Trainer))
    return made


@pytest.fixture
def written(judge, monkeypatch):
    """Runs the blocks of a section, or one of them, and returns the names that they define."""

    def load(*_: Any, **__: Any) -> Any:
        return judge

    def run(section: str, *, first: bool = True, only: int | None = None) -> dict[str, Any]:
        names: dict[str, Any] = {"cluster": None, "dataset": None}
        blocks = SECTIONS[section] if only is None else [SECTIONS[section][only]]
        for block in [*SECTIONS["A reward for your RL loop"][: int(first)], *blocks]:
            exec(block, names)
        return names

    judge.load = load
    monkeypatch.setattr(grm_jax, "Judge", judge, raising=False)
    packages = "trl", "tunix", "tunix.rl", "tunix.rl.grpo", "tunix.rl.grpo.grpo_learner"
    for name in packages:
        monkeypatch.setitem(sys.modules, name, module(name))
    return run


def test_every_section_is_read() -> None:
    trainers = {"TRL", "Tunix", "verl", "OpenRLHF", "AReaL", "In a loop of your own"}
    assert {name for name, blocks in SECTIONS.items() if blocks} == trainers | {
        "A reward for your RL loop"
    }


def test_the_first_lines(written) -> None:
    assert written("Things to know")["reward"](prompts=["q"] * 2, completions=["3", "9"]) == [3, 9]


def test_trl(written) -> None:
    settings = written("TRL", only=0)["trainer"].settings
    assert settings["args"].settings == {"num_generations": 8, "log_completions": True}
    told = settings["reward_funcs"](prompts=["q"], completions=["unreadable"], completion_ids=[[1]])
    assert told == [None]
    reward = written("TRL")["reward"].trl
    assert reward(prompts=["q"] * 2, completions=["3", "9"], task=["chat", "x"]) == [3, None]


def test_tunix(written) -> None:
    settings = written("Tunix")["learner"].settings
    assert settings["reward_fns"](prompts=["q"] * 2, completions=["3", "9"], mode="train") == [3, 9]
    (metrics,) = settings["metric_fns"]
    assert metrics(prompts=["q"] * 2, completions=["3", "9"])["grm/score"][0] == 6


def test_verl(written) -> None:
    compute_score = written("verl", first=False)["compute_score"]
    asked = {"data_source": "", "ground_truth": "", "extra_info": {"question": "q"}}

    async def group() -> list[dict[str, float]]:
        calls = (compute_score(solution_str=str(i), **asked) for i in range(1, 9))
        return await asyncio.gather(*calls)

    results = asyncio.run(group())
    assert [told["score"] for told in results] == list(range(1, 9))
    for told in results:
        assert {"grm_score", "grm_invalid", "grm_margin", "grm_tokens"} < told.keys()


def test_openrlhf(written) -> None:
    reward_func = written("OpenRLHF", first=False)["reward_func"]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(reward_func, [f"q{worth}"], ["q"], [""]) for worth in (1, 10, 1, 10)]
        assert [call.result()["scores"] for call in calls] == [[0], [1], [0], [1]]


def test_areal(written) -> None:
    reward_fn = written("AReaL", first=False)["reward_fn"]
    assert reward_fn("q", "3", [1], [2], answer="4") == 3


def test_in_a_loop_of_ones_own(written) -> None:
    assert written("In a loop of your own", first=False)["rewards"]("q", ["3", "9"]) == [3, 9]
    results = written("Things to know")["reward"].score(["q"] * 2, ["3", "unreadable"])
    assert all(isinstance(result, Refusal) for result in results)
