"""Voting@k: sum the scores of k judgments (equations 12-14), rank, break ties with a key.

MetaRM@k sums only the judgments that a meta RM rates highest ("guided voting").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grm_jax.judging.judgment import Judgment, Verdict


def guide(judgments: Sequence[Judgment], k_meta: int | None = None) -> tuple[Judgment, ...]:
    """The judgments, of which only the `k_meta` with the highest meta score are marked as counted.

    k_meta: by default half of them, at least one (the paper's k / 2). Judgments without scores
    never count; equal meta scores go by sample number.

    Raises:
        ValueError: k_meta is not positive, or a meta score is not finite.
    """
    k_meta = max(len(judgments) // 2, 1) if k_meta is None else k_meta
    if k_meta < 1:
        raise ValueError(
            f"k_meta is {k_meta}; a verdict needs at least one judgment: give 1 or more."
        )
    valid = [j for j in judgments if j.scores is not None]
    for judgment in valid:
        if judgment.meta is not None and not math.isfinite(judgment.meta):
            raise ValueError(
                f"the meta score of sample {judgment.sample} is {judgment.meta}; what is not "
                "finite cannot choose. Rate the samples again, with a sound meta RM."
            )
    unrated = float("-inf")
    best = sorted(valid, key=lambda j: (-(unrated if j.meta is None else j.meta), j.sample))
    kept = {j.sample for j in best[:k_meta]}
    return tuple(replace(j, counted=j.sample in kept) for j in judgments)


def vote(
    example_id: str, judgments: Sequence[Judgment], n: int, rng: np.random.Generator
) -> Verdict | None:
    """Combines the counted judgments of n responses; None if not one of them has scores.

    `rng` decides ties and nothing else; the paper shuffles before taking the highest.
    """
    counted = [j.scores for j in judgments if j.counted and j.scores is not None]
    if not counted:
        return None
    totals = np.asarray(counted).sum(axis=0)  # integers stay integers
    shuffled = rng.permutation(n)
    ranking = shuffled[np.argsort(-totals[shuffled], kind="stable")]
    ordered = totals[ranking]
    return Verdict(
        id=example_id,
        scores=tuple(totals.tolist()),
        best=int(ranking[0]),
        ranking=tuple(ranking.tolist()),
        tied=tuple(np.flatnonzero(totals == ordered[0]).tolist()),
        margin=float(ordered[0] - ordered[1]) / len(counted) if n > 1 else 0.0,
        valid=sum(j.scores is not None for j in judgments),
        k=len(judgments),
        judgments=tuple(judgments),
    )
