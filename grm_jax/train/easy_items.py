"""Items that teach RL nothing: a reference judge is always right about them."""

from __future__ import annotations

from grm_jax.judging.collect import collect
from grm_jax.judging.kinds import Learns
from grm_jax.judging.reward import is_correct
from grm_jax.processes import say
from grm_jax.text.messages import Example
from grm_jax.train.run import Run
from grm_jax.train.stages.grpo import FilterConfig


def hard_items(
    run: Run, config: FilterConfig, items: list[Example], kind: Learns, prompts: int
) -> list[Example]:
    """The items that are not too easy; writes filter.jsonl, what the reference judge wrote.

    Raises:
        ValueError: fewer are left than one step has prompts.
    """
    if not config.n:
        return items
    judge = run.open_judge(config.judge, "filter", kind=kind)
    judged = collect(judge, items, config.n, run.output / "filter.jsonl", name="grpo filter")
    hard = [
        row.example
        for row in judged
        if not all(is_correct(j.scores, row.example.label or 0) for j in row.judgments)
    ]
    if len(hard) < prompts:
        raise ValueError(
            f"the reference judge leaves {len(hard)} of {len(items)} items, fewer than the "
            f"{prompts} prompts of one step: give more items, or a smaller batch."
        )
    say(f"grpo: {len(hard)} of {len(items)} items are not too easy.")
    return hard
