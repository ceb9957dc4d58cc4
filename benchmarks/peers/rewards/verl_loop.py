"""Two batches through verl's reward loop, with its workers in Ray, and through its manager for
batches; and two samples through OpenRLHF's executor, whose engine is a stub."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray
import torch
from omegaconf import OmegaConf
from openrlhf.utils.agent import SingleTurnAgentExecutor
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopManager
from verl.workers.reward_manager.batch import BatchRewardManager

from benchmarks.peers.rewards import one_each, shared

HERE = Path(__file__).parent
FUNCTIONS = str(HERE / "one_each.py")


def batch(tokenizer: Any, questions: list[str], answers: list[str]) -> DataProto:
    """Rollouts as verl holds them: prompts padded on the left, responses on the right."""
    rows = [tokenizer.encode(text) for text in answers]
    width = max(map(len, rows)) + 1
    responses = torch.tensor([[*row, shared.EOS] + [0] * (width - 1 - len(row)) for row in rows])
    prompts = torch.full((len(rows), 4), shared.BOS)
    mask = torch.cat([torch.ones_like(prompts), (responses != shared.PAD).long()], dim=1)
    return DataProto.from_dict(
        tensors={"prompts": prompts, "responses": responses, "attention_mask": mask},
        non_tensors={
            "data_source": np.array(["sums"] * len(rows), object),
            "reward_model": np.array([{"ground_truth": ""}] * len(rows), object),
            "extra_info": np.array([{"question": question} for question in questions], object),
        },
    )


def config(folder: str) -> Any:
    """What the reward loop reads of verl's configuration."""
    return OmegaConf.create(
        {
            "actor_rollout_ref": {"model": {"path": folder, "tokenizer_path": folder}},
            "reward": {
                "num_workers": 1,
                "custom_reward_function": {"path": FUNCTIONS, "name": "compute_score"},
                "reward_manager": {"source": "register", "name": "naive"},
                "reward_model": {"enable": False},
                "sandbox_fusion": None,
            },
        }
    )


def questions_and_answers(step: int) -> tuple[list[str], list[str]]:
    """Two questions with a group of drawn answers each."""
    rng = np.random.default_rng(step)
    asked = [shared.QUESTIONS[2 * step + i // shared.GROUP] for i in range(2 * shared.GROUP)]
    return asked, [str(number) for number in rng.integers(10, 99, len(asked))]


def last_rewards(scores: torch.Tensor, data: DataProto) -> list[float]:
    """A response's reward stands at its last token, and nowhere else."""
    ends = data.batch["attention_mask"][:, data.batch["prompts"].shape[1] :].sum(1) - 1
    rewards = scores[torch.arange(len(scores)), ends]
    torch.testing.assert_close(scores.sum(1), rewards)
    return rewards.tolist()


def start_ray(tries: int = 3) -> None:
    """Starts Ray here. It waits for itself for 30 seconds, which a busy machine may not keep."""
    for left in reversed(range(tries)):
        try:
            ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": VARIABLES})
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


def verl_rewards(tokenizer: Any, folder: str) -> None:
    """One response at a time, held for its cohort, and a batch at a time."""
    start_ray()
    loop = RewardLoopManager(config(folder))
    at_once = BatchRewardManager(tokenizer, 0, one_each.compute_scores)
    asked, answers, each, together = [], [], [], []
    for step in range(shared.STEPS):
        questions, responses = questions_and_answers(step)
        data = batch(tokenizer, questions, responses)
        told = loop.compute_rm_score(data)
        rewards = last_rewards(told.batch["rm_scores"], data)
        keys = {f"grm_{name}" for name in shared.METRICS if name != "failed"}
        assert keys | {"score"} == set(told.meta_info["reward_extra_keys"])
        np.testing.assert_allclose(told.non_tensor_batch["grm_score"], rewards)
        asked, answers, each = asked + questions, answers + responses, each + rewards
        both = at_once(batch(tokenizer, questions, responses), return_dict=True)
        together += last_rewards(both["reward_tensor"], data)
        assert keys <= both["reward_extra_info"].keys()
    ray.shutdown()
    shared.hand_over("verl", asked, answers, each, shared.GROUP, ordered=True)
    shared.hand_over("verl_batch", asked, answers, together, shared.GROUP)


class Engine:
    """In the place of vLLM: answers to one prompt after another."""

    def __init__(self, tokenizer: Any, answers: list[str]):
        self._tokenizer, self._answers = tokenizer, iter(answers)

    async def generate(self, *_: Any, **__: Any) -> Any:
        tokens = [*self._tokenizer.encode(next(self._answers)), shared.EOS]
        output = SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


def openrlhf_rewards(tokenizer: Any) -> None:
    """Through the executor that OpenRLHF's workers run for each sample."""
    executor = SingleTurnAgentExecutor(FUNCTIONS)
    sampling = SimpleNamespace(max_tokens=4, logprobs=None)

    async def sample(question: str, answer: str) -> dict[str, Any]:
        engine = Engine(tokenizer, [answer])
        return await executor.execute(question, "", sampling, 64, tokenizer, engine)

    async def samples(asked: list[tuple[str, str]]) -> list[dict[str, Any]]:
        return await asyncio.gather(*(sample(*one) for one in asked))

    questions, answers = questions_and_answers(0)
    outputs = asyncio.run(samples(list(zip(questions, answers, strict=True))))
    rewards = [output["reward"][0] for output in outputs]
    for output in outputs:
        assert output["scores"] == output["reward"] == output["extra_logs"]["grm_score"]
    shared.hand_over("openrlhf", questions, answers, rewards, shared.GROUP, ordered=True)


VARIABLES = {
    name: os.environ[name]
    for name in ("PYTHONPATH", "JAX_PLATFORMS", "HF_HUB_OFFLINE")
    if name in os.environ
}


def main() -> None:
    """Both frameworks."""
    folder = str(Path(sys.argv[1]) / "tokenizer")
    tokenizer = shared.tokenizer(folder)
    verl_rewards(tokenizer, folder)
    openrlhf_rewards(tokenizer)


if __name__ == "__main__":
    main()
