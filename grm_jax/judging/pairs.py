"""`PairInput`: any judge, shown two responses at a time (the paper's Table 11, pair input)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.samples import SampleSource
from grm_jax.text.messages import Example

Pair = tuple[int, int]


@dataclass
class _Pending:
    """An Example whose pairs are being judged, and what is there of them."""

    example: Example
    left: int
    found: dict[Pair, tuple[Judgment, ...]] = field(default_factory=dict)
    refused: bool = False


class PairInput:
    """A source that judges an Example of more than two responses in all its pairs.

    In sample number s a response scores one for each pair that it wins in sample s of that pair,
    and a half for each tie. A pair whose judgment has no scores is a tie; if that is all of them,
    the sample has none either. One or two responses are judged as they stand.

    Args:
        source: the judge. A pair's randomness is named by the Example's id and its two numbers.
    """

    def __init__(self, source: SampleSource):
        self.source = source
        self.on_devices = source.on_devices

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        An Example is refused as soon as one of its pairs is. Memory holds the Examples under way.
        """
        waiting: dict[str, tuple[_Pending, Pair]] = {}

        def shown() -> Iterator[Example]:
            for example in examples:
                pairs = list(combinations(range(example.n), 2)) if example.n > 2 else []
                pending = _Pending(example, len(pairs))
                cut = {pair: take(example, pair) for pair in pairs}
                waiting.update({part.id: (pending, pair) for pair, part in cut.items()})
                yield from cut.values() or [example]

        for result in self.source.sample_all(shown(), k):
            identity = result.id if isinstance(result, Refusal) else result.example.id
            if identity not in waiting:
                yield result
                continue
            pending, pair = waiting.pop(identity)
            pending.left -= 1
            if isinstance(result, Sampled):
                pending.found[pair] = result.judgments
            elif not pending.refused:
                pending.refused = True
                places = f"responses {pair[0] + 1} and {pair[1] + 1}"
                error = f"{places}: {result.error}"
                yield replace(result, id=pending.example.id, error=error)
            if pending.left == 0 and not pending.refused:
                yield Sampled(pending.example, tuple(_joined(pending, s) for s in range(k)))


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


def _joined(pending: _Pending, sample: int) -> Judgment:
    """Sample number `sample` of all pairs as one judgment of the Example."""
    parts = {pair: judgments[sample] for pair, judgments in sorted(pending.found.items())}
    wins = [0.0] * pending.example.n
    for (i, j), part in parts.items():
        first, second = part.scores or (0, 0)
        won = 0.5 if first == second else float(first > second)
        wins[i] += won
        wins[j] += 1 - won
    read = [part for part in parts.values() if part.scores is not None]
    return Judgment(
        sample=sample,
        order=tuple(range(pending.example.n)),
        principles=_written(parts, "principles"),
        critique=_written(parts, "critique"),
        scores=tuple(wins) if read else None,
        reason=None if read else next(iter(parts.values())).reason,
        text=_written(parts, "text"),
        tokens=sum(part.tokens for part in parts.values()),
        logprob=sum(part.logprob for part in parts.values()),
        counted=bool(read),
    )


def _written(parts: dict[Pair, Judgment], what: str) -> str:
    """What the pairs' judgments say, each under the numbers of its responses as it saw them."""
    return "\n\n".join(
        "[Responses {} and {}]\n".format(*(pair[place] + 1 for place in part.order))
        + getattr(part, what)
        for pair, part in parts.items()
    )
