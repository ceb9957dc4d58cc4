"""Voting@k: sum the scores of k judgments (equations 12-14), rank, break ties with a key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grm_jax.judging.judgment import Judgment, Verdict


def vote(
    example_id: str, judgments: Sequence[Judgment], n: int, rng: np.random.Generator
) -> Verdict | None:
    """Combines judgments of n responses; None if not one of them has scores.

    `rng` decides ties and nothing else; the paper shuffles before taking the highest.
    """
    valid = [j.scores for j in judgments if j.scores is not None]
    if not valid:
        return None
    totals = np.asarray(valid, np.int64).sum(axis=0)
    shuffled = rng.permutation(n)
    ranking = shuffled[np.argsort(-totals[shuffled], kind="stable")]
    ordered = totals[ranking]
    return Verdict(
        id=example_id,
        scores=tuple(totals.tolist()),
        best=int(ranking[0]),
        ranking=tuple(ranking.tolist()),
        tied=tuple(np.flatnonzero(totals == ordered[0]).tolist()),
        margin=float(ordered[0] - ordered[1]) / len(valid) if n > 1 else 0.0,
        valid=len(valid),
        k=len(judgments),
        judgments=tuple(judgments),
    )
