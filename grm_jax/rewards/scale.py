"""From a verdict to rewards: one number for each of its responses."""

from __future__ import annotations

from typing import Literal

import numpy as np

from grm_jax.judging.judgment import Verdict

Scale = Literal["mean", "unit", "rank", "best"]


def rewards_of(verdict: Verdict, scale: Scale, low: float, high: float) -> tuple[float, ...]:
    """The rewards of the responses of a verdict, in their order.

    Args:
        scale: "mean", the mean score over the judgments that count, on the judge's own scale;
            "unit", the same with `low` at 0 and `high` at 1; "rank", the share of the others that
            a response beats, a tie counting half; "best", 1 for the best response, which several
            share where they are tied, and 0 for the others.
        low, high: the ends of the judge's scale.

    Raises:
        ValueError: a single response has no rank.
    """
    if scale == "mean":
        return verdict.mean_scores
    if scale == "unit":
        return tuple((score - low) / (high - low) for score in verdict.mean_scores)
    totals = np.asarray(verdict.scores)
    if len(totals) == 1:
        raise ValueError(
            f"the scale is {scale!r}, which compares the responses to one prompt, and there is "
            'only one: give several in a call, or the scale "mean" or "unit".'
        )
    if scale == "best":
        top = totals == totals.max()
        return tuple((top / top.sum()).tolist())
    beaten = (totals[:, None] > totals).sum(axis=1)
    tied = (totals[:, None] == totals).sum(axis=1) - 1
    return tuple(((beaten + tied / 2) / (len(totals) - 1)).tolist())
