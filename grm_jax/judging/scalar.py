"""Scalar judges: a reward for each response alone (BTRM), or a margin for each two (PairRM).

Neither writes anything: a judgment has scores and no text. What they read goes through
`encode_chat`, so that no text can end its turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from grm_jax.judging.grouping import Reading
from grm_jax.judging.judgment import Judgment, Refusal, Sampled, check_samples
from grm_jax.judging.rater import NOT_FINITE, Rater
from grm_jax.randomness import item_key, response_order
from grm_jax.text.messages import Example, Message
from grm_jax.text.prompts import Template, render
from grm_jax.text.tokenizer import Tokenizer


@dataclass
class BTRM:
    """A Bradley-Terry reward model: one raw score for a conversation with a response at its end.

    It knows no chance, so each Example is scored once, and its k judgments are alike. Responses do
    not share a row, though they share the conversation: a score has the same bits whatever the
    other responses are.
    """

    rater: Rater
    on_devices = True

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k equal judgments for each Example, in the order in which Examples are finished."""
        check_samples(k)
        for tag, results in self.rater(map(self._request, examples)):
            if isinstance(tag, Refusal):
                yield tag
            elif (scores := complete(results)) is None:
                yield unscored(tag, results, self.rater)
            else:
                order = tuple(range(tag.n))
                yield Sampled(tag, tuple(unwritten(i, order, scores) for i in range(k)))

    def _request(self, example: Example) -> tuple[Example | Refusal, list[Reading]]:
        try:
            rows = [
                reward_tokens(self.rater.folder.tokenizer, example, i) for i in range(example.n)
            ]
        except ValueError as error:
            return Refusal(example.id, str(error)), []
        return example, [Reading(tuple(row)) for row in rows]


@dataclass
class PairRM:
    """A pairwise reward model: reads two responses at once, and gives one raw score S.

    S says that the first is better, and -S that the second is: its sign decides. Of more than two
    responses all pairs are read, and a response's score is the sum over its pairs.

    Each sample number has an order of the responses, and of a pair the one that comes first is
    shown first. Samples 2 j and 2 j + 1 have opposite orders, so that a liking for one position
    cancels for every even k, and stays in for k = 1. No pair is read twice in one order.

    Args:
        seed: of the orders.
    """

    rater: Rater
    seed: int = 0
    on_devices = True

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        A single response is refused: there is nothing to hold it against.
        """
        check_samples(k)
        for tag, results in self.rater(self._request(example, k) for example in examples):
            if isinstance(tag, Refusal):
                yield tag
            elif (scores := complete(results)) is None:
                yield unscored(tag, results, self.rater)
            else:
                yield Sampled(tag, tuple(self._judgments(tag, k, scores)))

    def _request(self, example: Example, k: int) -> tuple[Example | Refusal, list[Reading]]:
        if example.n < 2:
            return Refusal(example.id, "it has one response, and a PairRM compares two."), []
        folder = self.rater.folder
        known: dict[tuple[int, int], Reading] = {}
        for i, j in self._pairs(example, k):
            if (i, j) not in known:
                tokens = pair_tokens(folder.tokenizer, folder.templates.meta, example, i, j)
                known[i, j] = Reading(tuple(tokens))
        return example, [known[pair] for pair in self._pairs(example, k)]

    def _judgments(self, example: Example, k: int, margins: Sequence[float]) -> Iterator[Judgment]:
        left = iter(margins)
        for sample in range(k):
            order = self.order(example, sample)
            scores = [0.0] * example.n
            for (i, j), margin in zip(combinations(order, 2), left, strict=False):
                scores[i] += margin
                scores[j] -= margin
            yield unwritten(sample, order, scores)

    def _pairs(self, example: Example, k: int) -> Iterator[tuple[int, int]]:
        for sample in range(k):
            yield from combinations(self.order(example, sample), 2)

    def order(self, example: Example, sample: int) -> tuple[int, ...]:
        """The order of the responses for a sample number."""
        order = response_order(self.seed, item_key(example.digest), sample // 2, example.n)
        return order[::-1] if sample % 2 else order


def reward_tokens(tokenizer: Tokenizer, example: Example, response: int) -> list[int]:
    """The conversation, and the response as the model's turn: what public reward models of this
    architecture were trained on (transformers' apply_chat_template).

    Raises:
        ValueError: the turns of the conversation do not alternate.
    """
    turns = (*example.turns, Message("assistant", example.responses[response]))
    return tokenizer.encode_chat(turns, generation_prompt=False)


def pair_tokens(
    tokenizer: Tokenizer, template: Template, example: Example, first: int, second: int
) -> list[int]:
    """The request to score two of the responses in this order, up to where an answer would begin.

    template: `meta`, which shows a conversation with its responses and asks for nothing in
    particular.
    """
    shown = alone(example, first, second)
    return tokenizer.encode_chat(render(shown, template))


def alone(example: Example, *responses: int) -> Example:
    """The Example with these of its responses, and what is not known of them left out."""
    return Example(
        example.turns,
        [example.responses[i] for i in responses],
        "/".join((example.id, *map(str, responses))),
        principles=example.principles,
    )


def unwritten(sample: int, order: tuple[int, ...], scores: Sequence[float]) -> Judgment:
    """A judgment of scores and no text."""
    return Judgment(sample, order, "", "", tuple(scores), None, "", tokens=0, logprob=0.0)


def complete(scores: Sequence[float | None]) -> list[float] | None:
    """The scores of an Example's sequences; None if one of them has none that is finite."""
    finite = [score for score in scores if score is not None and math.isfinite(score)]
    return finite if len(finite) == len(scores) else None


def unscored(example: Example, scores: Sequence[float | None], rater: Rater) -> Refusal:
    """Why an Example has no scores."""
    if None not in scores:
        return Refusal(example.id, NOT_FINITE.format(rater.folder.path))
    return Refusal(
        example.id,
        f"the conversation with what is to be scored has more than the {rater.longest} tokens "
        "that this model reads: shorten the row.",
    )
