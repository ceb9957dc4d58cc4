"""Two steps of TRL's `GRPOTrainer`, with the reward as a function of strings and as a coroutine of
messages; some rows are of a task that has a reward of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

from benchmarks.peers.rewards import shared


def length(completions: list[Any], task: list[str], **_: Any) -> list[float | None]:
    """The reward of the other task."""
    return [
        float(len(str(completion))) if name == "other" else None
        for completion, name in zip(completions, task, strict=True)
    ]


def run(name: str, rows: list[dict[str, Any]], reward: Any) -> pd.DataFrame:
    """Trains, and returns the table of completions that the trainer has written."""
    output = Path(sys.argv[1]) / f"{name}_run"
    policy = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shared.VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=shared.PAD,
            eos_token_id=shared.EOS,
            bos_token_id=shared.BOS,
        )
    )
    others = [i for i in range(shared.VOCABULARY) if i not in shared.DIGITS]
    settings = GRPOConfig(
        output_dir=str(output),
        max_steps=shared.STEPS,
        per_device_train_batch_size=2 * shared.GROUP,
        num_generations=shared.GROUP,
        max_completion_length=2,
        generation_kwargs={"suppress_tokens": others},
        logging_steps=1,
        log_completions=True,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        seed=1,
    )
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=[reward, length],
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=shared.tokenizer(),
    )
    trainer.train()
    logs = [line for line in trainer.state.log_history if "rewards/grm/mean" in line]
    assert len(logs) == shared.STEPS, trainer.state.log_history
    for log in logs:
        assert {f"grm/{metric}" for metric in shared.METRICS} <= log.keys(), log
        assert log["grm/failed"] == 0
    files = sorted((output / "completions").glob("*.parquet"))
    table = pd.concat(map(pd.read_parquet, files))
    for log, (_, step) in zip(logs, table.groupby("step"), strict=True):
        assert abs(step["grm"].mean() - log["rewards/grm/mean"]) < 1e-5
    return table


def text(turns: Any) -> str:
    """The text of a prompt or a completion of one turn."""
    return turns if isinstance(turns, str) else turns[0]["content"]


def main() -> None:
    """Both runs."""
    reward = shared.judge_reward(applies=lambda row: row["task"] == "sum")
    asked = [{"prompt": question, "task": "sum"} for question in shared.QUESTIONS[:3]]
    asked.append({"prompt": "Say something.", "task": "other"})
    talked = [
        {"prompt": [{"role": "user", "content": row["prompt"]}], "task": row["task"]}
        for row in asked
    ]
    for name, rows, function in (
        ("trl", asked, reward.trl),
        ("trl_async", talked, reward.trl_async),
    ):
        table = run(name, rows, function)
        assert len(table) == shared.STEPS * 2 * shared.GROUP
        prompts = table["prompt"].map(text)
        other = prompts == "Say something."
        assert table["grm"].isna().equals(other), "only the other task has no reward of ours"
        assert table["grm/score"].isna().equals(other)
        mine = table[~other]
        answers = mine["completion"].map(text)
        shared.hand_over(
            name, list(prompts[~other]), list(answers), list(mine["grm"]), shared.GROUP
        )


if __name__ == "__main__":
    main()
