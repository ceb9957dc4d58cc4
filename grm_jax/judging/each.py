"""`EachInput`: any judge, shown one response at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.pairs import take
from grm_jax.judging.pending import sample_parts
from grm_jax.judging.samples import SampleSource
from grm_jax.text.messages import Example


class EachInput:
    """A source that judges every response of an Example by itself.

    In sample number s a response has the score of sample s of its own judgments; where one of them
    has none, the sample has none.

    Args:
        source: the judge. The randomness of a response follows from the prompt and itself.
    """

    def __init__(self, source: SampleSource):
        self.source = source
        self.on_devices = source.on_devices

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        An Example is refused as soon as one of its responses is. Memory holds those under way.
        """
        for pending, index in sample_parts(self.source, examples, k, split):
            example, result = pending.owner, pending.parts[index]
            if example.n == 1:
                yield result
            elif isinstance(result, Refusal):
                if sum(isinstance(part, Refusal) for part in pending.parts.values()) == 1:
                    error = f"response {index + 1}: {result.error}"
                    yield replace(result, id=example.id, error=error)
            elif pending.complete:
                parts = [part for part in pending.in_order() if isinstance(part, Sampled)]
                if len(parts) == example.n:
                    joined = tuple(
                        joined_judgment([p.judgments[s] for p in parts]) for s in range(k)
                    )
                    yield Sampled(example, joined, engine=result.engine)


def split(example: Example) -> dict[int, Example]:
    """Its responses, each an Example; the label says which is best, and so nothing of one alone."""
    if example.n == 1:
        return {0: example}
    return {i: replace(take(example, (i,)), label=None) for i in range(example.n)}


def joined_judgment(parts: list[Judgment]) -> Judgment:
    """The same sample of all responses, in their order, as one judgment."""
    scores = [score for part in parts if part.scores for score in part.scores]
    read = len(scores) == len(parts)
    return Judgment(
        sample=parts[0].sample,
        order=tuple(range(len(parts))),
        principles=_written(parts, "principles"),
        critique=_written(parts, "critique"),
        scores=tuple(scores) if read else None,
        reason=None if read else next(part.reason for part in parts if part.scores is None),
        text=_written(parts, "text"),
        tokens=sum(part.tokens for part in parts),
        logprob=sum(part.logprob for part in parts),
        counted=read,
        criteria=_criteria(parts),
    )


def _criteria(parts: list[Judgment]) -> dict[str, tuple[float, ...]] | None:
    """The scores of the criteria that all judgments have."""
    of_each = [part.criteria or {} for part in parts]
    shared = [name for name in of_each[0] if all(name in one for one in of_each)]
    return {name: tuple(one[name][0] for one in of_each) for name in shared} or None


def _written(parts: list[Judgment], what: str) -> str:
    """What the judgments say, each under the number of its response."""
    return "\n\n".join(f"[Response {i}]\n{getattr(p, what)}" for i, p in enumerate(parts, 1))
