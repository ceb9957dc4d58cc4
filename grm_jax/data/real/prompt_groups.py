"""Which prompts are held out: near-duplicates are on one side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from grm_jax.randomness import in_share

Side = Literal["train", "heldout"]
RUN = 5  # words in a row that two prompts may share
SHARED = 0.5  # of the runs of the shorter of two prompts, from which they are near-duplicates
# A run in more prompts than this is a phrase of the language or of a template.
COMMON = 200


def sides(prompts: Sequence[str], heldout: float) -> list[Side]:
    """The side of each prompt, given as words in lower case; near-duplicates share one.

    Two prompts are near-duplicates where half of the runs of five words of the shorter one are in
    the other, or by way of a third. The side follows from a hash of the first of a group, in the
    alphabet; no seed moves it.
    """
    leader = _groups(prompts)
    return [
        "heldout" if in_share(f"real/{prompts[leader[i]]}", heldout) else "train"
        for i in range(len(prompts))
    ]


def _groups(prompts: Sequence[str]) -> list[int]:
    """The index of the first prompt, in the alphabet, of each one's group."""
    runs = [_runs(prompt) for prompt in prompts]
    having: defaultdict[str, list[int]] = defaultdict(list)
    for i, own in enumerate(runs):
        for run in sorted(own):
            having[run].append(i)
    shared = Counter(
        pair for members in having.values() if len(members) <= COMMON
        for pair in combinations(members, 2)
    )  # fmt: skip
    parent = list(range(len(prompts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for (a, b), count in shared.items():
        if count >= SHARED * min(len(runs[a]), len(runs[b])):
            first, second = sorted((root(a), root(b)), key=lambda i: prompts[i])
            parent[second] = first
    return [root(i) for i in range(len(prompts))]


def _runs(prompt: str) -> set[str]:
    parts = prompt.split()
    return {" ".join(parts[i : i + RUN]) for i in range(max(1, len(parts) - RUN + 1))}
