"""Rewards for RL: was a judgment right, by the rule of SPCT (equations 10 and 11 of the paper)?

A new reward is a function here and a line of `REWARDS`; `grm train grpo --reward` then takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grm_jax.judging.judgment import Judgment
from grm_jax.text.messages import Example

# reward(example, its group of judgments) -> one reward each. The example is as the policy saw it.
Reward = Callable[[Example, Sequence[Judgment]], Sequence[float]]


def is_correct(scores: Sequence[float] | None, label: int) -> bool:
    """Equation 10: whether the labelled best response has *strictly* the highest score.

    A tie is wrong, and so is a judgment without scores (None). A single response (n = 1) was
    judged 0 or 1, and its score must equal its label.
    """
    if scores is None or len(scores) == 0:
        return False
    if len(scores) == 1:
        return scores[0] == label
    return all(scores[label] > score for i, score in enumerate(scores) if i != label)


def rule_reward(scores: Sequence[float] | None, label: int) -> float:
    """Equation 11: +1 for a correct judgment, -1 for any other; there is no reward for format."""
    return 1.0 if is_correct(scores, label) else -1.0


def rule_rewards(example: Example, judgments: Sequence[Judgment]) -> list[float]:
    """`rule_reward` of each judgment."""
    assert example.label is not None
    return [rule_reward(judgment.scores, example.label) for judgment in judgments]


# By the name that `--reward` takes.
REWARDS: dict[str, Reward] = {"rule": rule_rewards}
