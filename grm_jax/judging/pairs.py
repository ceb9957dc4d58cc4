"""`PairInput`: any judge, shown two responses at a time (the paper's Table 11, pair input)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.pending import sample_parts
from grm_jax.judging.samples import SampleSource
from grm_jax.text.messages import Example

Pair = tuple[int, ...]  # two indices, or none: the whole Example


class PairInput:
    """A source that judges an Example of more than two responses in all its pairs.

    In sample number s a response scores one for each pair that it wins in sample s of that pair,
    and a half for each tie. A pair whose judgment has no scores is a tie; if that is all of them,
    the sample has none either. One or two responses are judged as they stand.

    Args:
        source: the judge. A pair's randomness follows from what it shows.
    """

    def __init__(self, source: SampleSource):
        self.source = source
        self.on_devices = source.on_devices

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        An Example is refused as soon as one of its pairs is. Memory holds the Examples under way.
        """
        for pending, pair in sample_parts(self.source, examples, k, split):
            example, result = pending.owner, pending.parts[pair]
            if not pair:
                yield result
            elif isinstance(result, Refusal):
                if sum(isinstance(part, Refusal) for part in pending.parts.values()) == 1:
                    error = f"responses {pair[0] + 1} and {pair[1] + 1}: {result.error}"
                    yield replace(result, id=example.id, error=error)
            elif pending.complete:
                parts = {
                    pair: part.judgments
                    for pair, part in zip(pending.keys, pending.in_order(), strict=True)
                    if isinstance(part, Sampled)
                }
                if len(parts) == len(pending.keys):
                    joined = tuple(_joined(example, parts, s) for s in range(k))
                    yield Sampled(example, joined, engine=result.engine)


def split(example: Example) -> dict[Pair, Example]:
    """All pairs of its responses; an Example of one or two stands for itself, as ()."""
    if example.n <= 2:
        return {(): example}
    return {pair: take(example, pair) for pair in combinations(range(example.n), 2)}


def take(example: Example, responses: Sequence[int]) -> Example:
    """The Example with these of its responses, in this order, under an id of its own.

    The label is kept if it is among them.
    """
    label = example.label
    return replace(
        example,
        responses=tuple(example.responses[i] for i in responses),
        id=f"{example.id} [{', '.join(str(i + 1) for i in responses)}]",
        label=responses.index(label) if label in responses else None,
        scores=example.scores and tuple(example.scores[i] for i in responses),
    )


def _joined(
    example: Example, judgments: Mapping[Pair, Sequence[Judgment]], sample: int
) -> Judgment:
    """Sample number `sample` of all pairs as one judgment of the Example."""
    parts = {pair: of_pair[sample] for pair, of_pair in judgments.items()}
    wins = [0.0] * example.n
    for (i, j), part in parts.items():
        first, second = part.scores or (0, 0)
        won = 0.5 if first == second else float(first > second)
        wins[i] += won
        wins[j] += 1 - won
    read = [part for part in parts.values() if part.scores is not None]
    return Judgment(
        sample=sample,
        order=tuple(range(example.n)),
        principles=_written(parts, "principles"),
        critique=_written(parts, "critique"),
        scores=tuple(wins) if read else None,
        reason=None if read else next(iter(parts.values())).reason,
        text=_written(parts, "text"),
        tokens=sum(part.tokens for part in parts.values()),
        logprob=sum(part.logprob for part in parts.values()),
        counted=bool(read),
    )


def _written(parts: Mapping[Pair, Judgment], what: str) -> str:
    """What the pairs' judgments say, each under the numbers of its responses as it saw them."""
    return "\n\n".join(
        "[Responses {} and {}]\n".format(*(pair[position] + 1 for position in part.order))
        + getattr(part, what)
        for pair, part in parts.items()
    )
