"""Ways to vote with the samples of a row, and the totals of each.

One pool of K samples per row serves every k: each group of k that `choices` draws from it is as
good as k fresh samples, so the mean over the groups is unbiased, and varies less than one group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grm_jax.evals.benchmark import Totals
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.voting import guide
from grm_jax.randomness import choice_stream

# At least so many groups are drawn if k < K.
CHOICES = 8


@dataclass(frozen=True)
class Vote:
    """One way to vote: with k samples, or with the `k_meta` of k that the meta RM rates highest.

    k_meta: by default half of k.

    Raises:
        ValueError: a number is out of its range.
    """

    k: int
    guided: bool = False
    k_meta: int | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; a vote needs at least one sample.")
        if self.k_meta is not None and not (self.guided and 1 <= self.k_meta <= self.k):
            raise ValueError(
                f"k_meta is {self.k_meta} of {self.k} samples: give 1 to k, for a guided vote."
            )

    @property
    def label(self) -> str:
        """The paper's name for it."""
        if not self.guided:
            return f"Voting@{self.k}"
        return f"MetaRM@{self.k}" + (f" (k_meta {self.k_meta})" if self.k_meta else "")


def doublings(k: int) -> list[int]:
    """1, 2, 4 .. up to k, and k itself."""
    return sorted({*(2**i for i in range(k.bit_length()) if 2**i <= k), k})


def votes_of(k: int, k_meta: int | None = None) -> list[Vote]:
    """Voting@1, 2, 4 .. k, and MetaRM at the same k where it differs."""
    sizes = doublings(k)
    guided = [Vote(n, True, k_meta) for n in sizes if n > 1 and n >= (k_meta or 1)]
    return [Vote(n) for n in sizes] + guided


def disjoint(pool: int, k: int) -> np.ndarray:
    """As many disjoint groups [C, k] of the sample numbers 0 .. pool-1 as there are, in order.

    Raises:
        ValueError: k is above pool.
    """
    if k > pool:
        raise ValueError(f"k is {k}, but there are only {pool} samples of each row: sample more.")
    return np.arange(pool // k * k).reshape(-1, k)


def choices(pool: int, k: int) -> np.ndarray:
    """Groups [C, k] of sample numbers 0 .. pool-1, the same for every row.

    k = 1 takes every sample once, and k = pool all of them. In between, they are the disjoint
    groups of as few permutations as are needed for CHOICES groups.

    Raises:
        ValueError: k is above pool.
    """
    groups = disjoint(pool, k)
    if k in (1, pool):
        return groups
    rng = choice_stream(pool, k)
    drawn = [groups]
    while len(drawn) * len(groups) < CHOICES:
        drawn.append(rng.permutation(pool)[groups])
    return np.concatenate(drawn)


def totals(sampled: Sampled, vote: Vote, groups: np.ndarray) -> list[Totals | None]:
    """The mean scores (equations 12-14, over the number of counted judgments) of each group [C, k]
    of a row's judgments; None for a group of which no judgment can be read."""
    judgments = sampled.judgments
    scored = [judgment.scores is not None for judgment in judgments]
    if not any(scored):
        return [None] * len(groups)
    nothing = (0.0,) * sampled.example.n
    scores = np.array([judgment.scores or nothing for judgment in judgments], np.float64)
    counts = np.array(scored)[groups]  # [C, k]
    if vote.guided:
        chosen = [guide([judgments[i] for i in group], vote.k_meta) for group in groups]
        counts &= np.array([[judgment.counted for judgment in group] for group in chosen])
    sums = (scores[groups] * counts[..., None]).sum(1)
    numbers = counts.sum(1)
    means = (sums / np.maximum(numbers, 1)[:, None]).tolist()
    return [tuple(m) if n else None for m, n in zip(means, numbers, strict=True)]
