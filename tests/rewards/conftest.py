"""A judge that answers at once: a response is worth the number that it ends with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from grm_jax.judging.asking import Asking
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, Verdict
from grm_jax.judging.voting import conclude
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates


class Worth:
    """In the place of `Judge`; refuses an Example with the response "unreadable"."""

    def __init__(self) -> None:
        self.asking = Asking(load_templates())
        self.asked: list[Example] = []

    def __call__(self, example: Example, k: int = 8) -> Verdict:
        (verdict,) = self.judge_all([example], k)
        assert isinstance(verdict, Verdict)
        return verdict

    def judge_all(self, examples: Iterable[Example], k: int = 8) -> Iterator[Verdict | Refusal]:
        # Results come in any order.
        for example in reversed(list(examples)):
            self.asked.append(example)
            if "unreadable" in example.responses:
                yield Refusal(example.id, "none of its samples had readable scores")
            else:
                yield conclude(Sampled(example, tuple(self._judgments(example, k))), seed=0)

    def opening(self, example: Example) -> tuple[int, ...]:
        return (1, 2, 3) if example.principles else ()

    def _judgments(self, example: Example, k: int) -> Iterator[Judgment]:
        scores = tuple(int(response.split()[-1]) for response in example.responses)
        for sample in range(k):
            # The last of several samples cannot be read.
            told = None if k > 1 and sample == k - 1 else scores
            yield Judgment(
                sample=sample,
                order=tuple(range(example.n)),
                principles="",
                critique="",
                scores=told,
                reason=None if told else "no_box",
                text="",
                tokens=10 * example.n,
                logprob=-1.0,
                counted=told is not None,
            )


@pytest.fixture
def judge() -> Worth:
    return Worth()
