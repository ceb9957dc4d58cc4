"""TokenProb: LLM-as-a-Judge whose votes are weighed by the probability of each response's number.

Where the judge wrote a number into the box, a response's score is the probability of its own
number, among the numbers of all responses. Numbers are single digits: a number of several tokens
has no probability of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.judging.answer import Answer
from grm_jax.judging.asking import written
from grm_jax.judging.grouping import Reading
from grm_jax.judging.judgment import Judgment, restore
from grm_jax.judging.rater import Reader, last_states
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.sampling.request import Completion
from grm_jax.text.parse import choice_place
from grm_jax.text.reasoning import answer_start

MOST = 9


def check_count(n: int) -> None:
    """Raises ValueError, in a sentence, for more responses than there are single digits."""
    if n > MOST:
        raise ValueError(
            f"there are {n} responses, and TokenProb reads the probability of one digit, so of up "
            f"to {MOST} responses: use the kind judge, or show them in pairs."
        )


def weighed(judgment: Judgment, shares: Sequence[float] | None) -> Judgment:
    """A vote, weighed: `shares` are in the order shown. None: its number is not one token.

    A judgment without a vote stays as it is.
    """
    if judgment.scores is None:
        return judgment
    if shares is None:
        return replace(judgment, scores=None, reason="no_index_token", counted=False)
    return replace(judgment, scores=restore(shares, judgment.order))


def softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Shares that add up to 1; minus infinity is a share of 0."""
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return tuple(weight / sum(weights) for weight in weights)


@dataclass
class IndexReader(Reader[list[float]]):
    """A model that writes: finds the logits of the numbers 1 to 9 as the next token.

    Raises:
        ValueError: slots is not positive, or a digit is not one token of the tokenizer.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        encoded = [self.folder.tokenizer.encode(str(i)) for i in range(1, MOST + 1)]
        if any(len(ids) != 1 for ids in encoded):
            raise ValueError(
                f"the tokenizer of {self.folder.path} has no token for each digit, which TokenProb "
                "is made of: use the kind judge."
            )
        self.numbers = [i for (i,) in encoded]

    def before(self, completion: Completion[Any], judgment: Judgment) -> list[Reading]:
        """The tokens that the model had read when it wrote the number of its choice.

        The very ones that it was given and drew, prompt and all. Nothing where there is no choice,
        or where its number is not one token.
        """
        if judgment.scores is None:
            return []
        label = self.folder.templates.judge.label
        tokenizer, tokens = self.folder.tokenizer, completion.tokens.tolist()
        _, start = written(tokens, tokenizer)
        place = choice_place(judgment.text, label, start or 0)
        head = judgment.text[len(tokenizer.opened) : place]
        for end in reversed(range(len(tokens))):
            text = tokenizer.decode(tokens[:end])
            if text == head and tokens[end] in self.numbers:
                return [Reading((*completion.request.tokens, *tokens[:end]))]
            if len(text) < len(head):
                break
        return []

    def compute(
        self, prompts: Array, prompt_positions: Array, tokens: Array, positions: Array
    ) -> Array:
        """The logits of each completion, [P, G, 9]."""
        model, params, wanted = self.folder.model, self.folder.params, jnp.asarray(self.numbers)
        return _PROGRAM(model, params, wanted, prompts, prompt_positions, tokens, positions)


def next_logits(
    model: Model,
    params: Params,
    wanted: Int[Array, " n"],
    prompts: Int[Array, "P S"],
    prompt_positions: Int[Array, "P S"],
    tokens: Int[Array, "P G T"],
    positions: Int[Array, "P G T"],
) -> Float[Array, "P G n"]:
    """The logits of the `wanted` tokens after each completion of each prompt."""
    last = last_states(model, params, prompts, prompt_positions, tokens, positions)
    return model.logits(params, last)[..., wanted]


_PROGRAM = jax.jit(next_logits, static_argnums=0)


def server_shares(answer: Answer, n: int, url: str, label: str) -> tuple[float, ...] | None:
    """The shares of n numbers, from the log-probabilities that a server sends with an answer.

    None where the chosen number is not a token, or the last letter of one. A number that is not
    among the likeliest tokens, as far as the server sends them, has a share of 0.

    Args:
        label: of the template's result.

    Raises:
        ValueError: the server sent no log-probabilities, or none at the chosen number.
    """
    if not any(token.top for token in answer.tokens):
        raise ValueError(_NO_TOP.format(url, "its tokens"))
    place = choice_place(answer.text, label, answer_start(answer.text) or 0)
    head, end = answer.text[:place].encode(), 0
    for token in answer.tokens:
        start, end = end, end + len(token.data)
        # "2", or with what the tokenizer puts before it: " 2" or "{2".
        before = token.text[:-1]
        if start + len(before.encode()) == len(head) < end:
            if not token.top:
                raise ValueError(_NO_TOP.format(url, "the number that it chose"))
            logprobs = {**token.top, token.text: token.logprob}
            logits = [logprobs.get(f"{before}{i}", -math.inf) for i in range(1, n + 1)]
            return softmax(logits) if max(logits) > -math.inf else None
    return None


_NO_TOP = (
    "{} sent no top_logprobs of {}, which TokenProb is made of: use the kind judge, or a server "
    "that sends them."
)
