"""Voting@k: sum the scores of k judgments (equations 12-14), rank, break ties with a key.

MetaRM@k sums only the judgments that a meta RM rates highest ("guided voting").
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grm_jax.judging.judgment import Judgment, Refusal, Sampled, Verdict
from grm_jax.randomness import item_key, tie_stream
from grm_jax.text.degenerate import degenerate


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


def conclude(
    sampled: Sampled | Refusal, *, seed: int, k_meta: int | None = None, guided: bool = False
) -> Verdict | Refusal:
    """The verdict on an Example; a Refusal, with the reasons, if no judgment could be read.

    Args:
        seed: decides ties.
        guided: only the `k_meta` judgments that the meta RM rates highest count, see `guide`.
    """
    if isinstance(sampled, Refusal):
        return sampled
    example, judgments = sampled.example, sampled.judgments
    if guided:
        judgments = guide(judgments, k_meta)
    rng = tie_stream(seed, item_key(example.digest))
    verdict = vote(example.id, judgments, example.n, rng)
    if verdict is not None:
        return replace(verdict, degenerate=degenerate(example.responses), engine=sampled.engine)
    counts = Counter(str(judgment.reason) for judgment in judgments)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return Refusal(
        example.id,
        f"none of {len(judgments)} samples had readable scores ({reasons}); the model does "
        "not follow the template, or max_new_tokens is too small.",
    )


def still_needed(
    judgments: Sequence[Judgment], k: int, n: int, spread: float, confidence: float = 1.0
) -> int:
    """How many more of k samples it takes at least, until it is decided which of n responses has
    the highest sum; 0: it is decided.

    With a confidence of 1 no outcome of the others can change the winner any more: each sample adds
    at most `spread`, the width of the scale, to what one response is ahead of another, and so, with
    r samples to come and a lead l, m of them can decide it if l + m spread > (r - m) spread.

    With less, the probability that they change it (a tie is a change) is below 1 - confidence, see
    `_doubt`. One response alone has a score, not a winner: all k are needed.
    """
    left = k - len(judgments)
    if n == 1 or left == 0:
        return left
    scores = np.asarray([j.scores for j in judgments if j.scores is not None], float).reshape(-1, n)
    totals = scores.sum(axis=0)
    best = int(totals.argmax())
    ahead = scores[:, [best]] - np.delete(scores, best, axis=1)
    short = left * spread - float(ahead.sum(axis=0).min())
    certain = min(math.floor(short / (2 * spread)) + 1, left) if short >= 0 else 0
    for more in range(certain if confidence < 1 else 0):
        if _doubt(ahead, len(judgments), left, spread, more) < 1 - confidence:
            return more
    return certain


def _doubt(ahead: np.ndarray, drawn: int, left: int, spread: float, more: int) -> float:
    """A bound on the probability that another response is level or ahead after the samples that are
    left, once `more` of them have gone to the leader as well as they can for this bound.

    Nothing tells two responses apart before they are judged, so what is known of the difference of
    their scores is symmetric about 0. Given the lead l > 0, it is then at least as likely to change
    if samples have no drift as if they have one of unknown sign: each difference counts as one of
    that size and either sign. Hoeffding's inequality gives exp(-l^2 / (2 r v)) for r samples of
    mean square v, summed over rivals. v is that of the samples so far and of one more, as wide as
    the scale, so that a few that agree do not pass for all. Stopping at the first time that it is
    small is allowed, as it bounds the probability given all that was seen.

    Args:
        ahead: what the leader is ahead of each rival in each readable sample, [samples, n - 1].
        drawn: samples so far; one that could not be read has a difference of 0.
    """
    lead, squares = ahead.sum(axis=0), (ahead**2).sum(axis=0) + spread**2
    # Of c equal further differences x, this maximizes (l + c x)^2 / (squares + c x^2).
    each = np.minimum(spread, squares / np.where(lead > 0, lead, 1e-300))
    lead = lead + more * each
    mean_square = (squares + more * each**2) / (drawn + 1 + more)
    return float(np.exp(-(lead**2) / (2 * (left - more) * mean_square)).sum())


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
