"""What comes out of judging: one `Judgment` per sample, one `Verdict` per Example."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grm_jax.text.messages import Example


@dataclass(frozen=True)
class Judgment:
    """One sampled critique, parsed.

    Attributes:
        sample: its number, 0 .. k-1, which names its randomness, see randomness.py.
        order: order[i] is the index of the response that was shown in position i.
        principles, critique: as generated; the critique speaks of positions, see `order`.
        scores: one number per response in the *Example's* order, or None if unparsable: 1..10 of a
            pointwise GRM; of another judge a vote (0 or 1), a probability, or a reward.
        reason: why there are no scores ("no_box", "box_elsewhere", "truncated", .., and of
            TokenProb "no_index_token"), else None.
        text: the whole completion.
        tokens: how many tokens were generated, the stop token included.
        logprob: the sum of their log-probabilities under the model, in nats.
        meta: the meta RM's raw score of the judgment; None without one, or without scores.
        counted: whether its scores are in the verdict's sum.
        criteria: for each criterion that it scores by itself, one number per response; None where
            it scores none, as the template does not ask for it.
    """

    sample: int
    order: tuple[int, ...]
    principles: str
    critique: str
    scores: tuple[float, ...] | None
    reason: str | None
    text: str
    tokens: int
    logprob: float
    meta: float | None = None
    counted: bool = True
    criteria: Mapping[str, tuple[float, ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `criteria` is there only if it scores any."""
        row = dataclasses.asdict(self)
        if self.criteria is None:
            del row["criteria"]
        return row


def restore(shown: Sequence[float], order: Sequence[int]) -> tuple[float, ...]:
    """Scores of the responses as shown (order[i] stood in position i), in the Example's order."""
    by_index = dict(zip(order, shown, strict=True))
    return tuple(by_index[index] for index in range(len(order)))


@dataclass(frozen=True)
class Sampled:
    """An Example and its k judgments, in the order of their numbers, before any vote.

    judged: the digest of what was judged, where the Example's texts are withheld.
    engine: the size of the engine that drew the samples, as `EngineSize` has it, without what
        follows from the model; their bits depend on it. None: there is no such engine, or the file
        that they are from does not say.
    """

    example: Example
    judgments: tuple[Judgment, ...]
    judged: str | None = field(default=None, compare=False)
    engine: Mapping[str, int] | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """The digest of what was judged."""
        return self.judged or self.example.digest


@dataclass(frozen=True)
class Verdict:
    """k judgments of one Example, combined.

    Attributes:
        scores: per response the sum over counted judgments (equations 12-14 of the paper): all
            valid ones (Voting@k), or those that the meta RM rates highest (MetaRM@k).
        best: index of the response with the highest total; ties broken at random with a key.
        ranking: indices from best to worst, ties likewise.
        tied: the indices that share the highest total (one entry: no tie).
        margin: highest total minus the next one per counted judgment, in score points (n = 1: 0).
        valid, k: how many of the k judgments have scores.
        degenerate: the responses in which there is nothing to judge, by index, and why: "empty",
            "blank" or "no visible text". They are judged like any other.
        engine: the size of the engine that drew the judgments, see `Sampled`.
    """

    id: str
    scores: tuple[float, ...]
    best: int
    ranking: tuple[int, ...]
    tied: tuple[int, ...]
    margin: float
    valid: int
    k: int
    judgments: tuple[Judgment, ...]
    degenerate: Mapping[int, str] = field(default_factory=dict)
    engine: Mapping[str, int] | None = field(default=None, compare=False)

    @property
    def invalid_reasons(self) -> dict[str, int]:
        """How many judgments were refused, by reason."""
        return dict(Counter(j.reason for j in self.judgments if j.reason is not None))

    @property
    def counted(self) -> int:
        """How many judgments are in the sum."""
        return sum(j.counted for j in self.judgments)

    @property
    def mean_scores(self) -> tuple[float, ...]:
        """Per response the mean over the counted judgments."""
        return tuple(total / self.counted for total in self.scores)

    @property
    def criteria(self) -> dict[str, tuple[float, ...]]:
        """For each criterion that judgments score by itself, per response the mean over the counted
        judgments that do."""
        said: dict[str, list[tuple[float, ...]]] = {}
        for judgment in self.judgments:
            for name, scores in (judgment.criteria or {}).items() if judgment.counted else ():
                said.setdefault(name, []).append(scores)
        return {
            name: tuple(sum(of_one) / len(rows) for of_one in zip(*rows, strict=True))
            for name, rows in said.items()
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `judgments[i].scores` is null where a critique had none.

        Sums fall where a judgment could not be read; mean_scores do not.
        """
        row = dataclasses.asdict(self)
        row["judgments"] = [judgment.to_json() for judgment in self.judgments]
        head = {name: row.pop(name) for name in ("id", "scores")}
        head |= {"mean_scores": self.mean_scores, "counted": self.counted}
        row = {**head, **row, "invalid_reasons": self.invalid_reasons}
        if self.engine is None:
            del row["engine"]
        if criteria := self.criteria:
            row["criteria"] = criteria
        for judgment in row["judgments"]:
            # The text repeats principles and critique, except where it could not be parsed.
            if judgment["scores"] is not None:
                del judgment["text"]
        return row


@dataclass(frozen=True)
class Refusal:
    """An Example without a verdict, and why, in a sentence for its owner.

    passing: the reason may be gone at the next try (a server that was down, memory that was full),
    so that the same command asks again.
    row: of a benchmark's row what a report must know without its text: subset, unit, label, digest,
    and whether an official script leaves it out.
    """

    id: str
    error: str
    passing: bool = False
    row: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """{"id": .., "error": ..}, with "passing" and "row" where there is such a thing."""
        line: dict[str, Any] = {"id": self.id, "error": self.error}
        if self.passing:
            line["passing"] = True
        return line if self.row is None else line | {"row": dict(self.row)}


def identity(result: Sampled | Refusal) -> str:
    """The id of the Example that this is the result of."""
    return result.id if isinstance(result, Refusal) else result.example.id


def check_samples(k: int) -> None:
    """Raises ValueError unless there is to be a sample."""
    if k < 1:
        raise ValueError(f"k is {k}; a verdict needs at least one sample.")


def check_adaptive(adaptive: bool | float) -> None:
    """Raises ValueError unless it is true or false, or a probability that is better than chance."""
    if adaptive and not 0.5 <= adaptive <= 1:
        raise ValueError(
            f"adaptive is {adaptive}; give true for the winner of all k votes, or from 0.5 up to 1 "
            "the probability with which it is to be that winner."
        )
