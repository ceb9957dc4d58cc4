"""The rule reward of SPCT: was the judgment right (equations 10 and 11 of the paper)?"""

from __future__ import annotations

from collections.abc import Sequence


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
