"""TokenProb: LLM-as-a-Judge whose votes are weighed by the probability of each response's number.

Where the judge wrote a number into the box, a response's score is the probability of its own
number, among the numbers of all responses. Numbers are single digits: a number of several tokens
has no probability of its own.

Of a judge that says Yes or No of one response (`{yes}` in its template) the score is the
probability of Yes, among the two: the log-odds of the next token on a scale from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from grm_jax.judging.answer import Answer, Token
from grm_jax.judging.asking import Asking, written
from grm_jax.judging.grouping import Reading
from grm_jax.judging.judgment import Judgment, restore
from grm_jax.judging.rater import Reader, last_states
from grm_jax.models.model import Model
from grm_jax.models.transformer import Params
from grm_jax.sampling.request import Completion
from grm_jax.text.answer_format import YES_NO
from grm_jax.text.parse import answer_place, choice_place
from grm_jax.text.reasoning import answer_start

MOST = 9
DIGITS = tuple(str(i) for i in range(1, MOST + 1))
# As models write the words, in the order of YES_NO: each may be a token of its own.
SPELLED = tuple(
    tuple(space + word for word in (name.capitalize(), name, name.upper()) for space in ("", " "))
    for name in YES_NO
)


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


def has_odds(asking: Asking, weighed: bool) -> bool:
    """Whether scores are the probabilities of words: those of votes, if they are to be `weighed`,
    or of Yes.

    Raises:
        ValueError: votes are to be weighed that are no numbers in a box.
    """
    template = asking.template(1)
    if weighed and template.answer is not None:
        raise ValueError(
            f"{template.name} has a format of its own for the answer, and TokenProb reads the "
            "number in a box: use the kind judge."
        )
    return weighed or (template.answer is not None and template.answer.value == "yes")


def yes_share(logits: Sequence[float], words: Sequence[bool]) -> float:
    """The probability of Yes among the two, where words[i] says whether token i is a Yes."""
    shares = softmax(logits)
    return math.fsum(share for share, yes in zip(shares, words, strict=True) if yes)


@dataclass
class IndexReader(Reader[list[float]]):
    """A model that writes: finds the logits of the numbers 1 to 9 as the next token, or of Yes and
    No.

    Raises:
        ValueError: slots is not positive; a digit, Yes or No is not one token of the tokenizer.
    """

    asking: Asking = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._form = self.asking.template(1).answer
        if self._form is None:
            encoded = [self.folder.tokenizer.encode(digit) for digit in DIGITS]
            if any(len(ids) != 1 for ids in encoded):
                raise ValueError(
                    f"the tokenizer of {self.folder.path} has no token for each digit, which "
                    "TokenProb is made of: use the kind judge."
                )
            self.numbers = [i for (i,) in encoded]
            return
        encode = self.folder.tokenizer.encode
        words = {
            ids[0]: name == YES_NO[0]
            for name, spelled in zip(YES_NO, SPELLED, strict=True)
            for ids in map(encode, spelled)
            if len(ids) == 1
        }
        if len(set(words.values())) < 2:
            raise ValueError(
                f"the tokenizer of {self.folder.path} has no token for Yes, or none for No, whose "
                "probabilities are the score: use a template that asks for a score."
            )
        self.numbers, self._yes = list(words), list(words.values())

    def shares(self, judgment: Judgment, logits: Sequence[float]) -> tuple[float, ...]:
        """The scores of a judgment in the order shown, from the logits at its place."""
        if self._form is None:
            return softmax(logits[: len(judgment.order)])
        return (yes_share(logits, self._yes),)

    def before(self, completion: Completion[Any], judgment: Judgment) -> list[Reading]:
        """The tokens that the model had read when it wrote the number of its choice, or Yes or No.

        The very ones that it was given and drew, prompt and all. Nothing where there is no choice,
        or where it is not one token.
        """
        if judgment.scores is None:
            return []
        tokenizer, tokens = self.folder.tokenizer, completion.tokens.tolist()
        _, start = written(tokens, tokenizer)
        if self._form is None:
            label = self.folder.templates.judge.label
            place = choice_place(judgment.text, label, start or 0)
        else:
            cut_off = not completion.finished
            place = answer_place(judgment.text, self._form, start or 0, cut_off=cut_off)
        head = judgment.text[len(tokenizer.opened) : place]
        if self._form is not None:
            head = head.rstrip()  # " Yes" is one token
        for end in reversed(range(len(tokens))):
            text = tokenizer.decode(tokens[:end])
            if self._form is not None:
                text = text.rstrip()
            if text == head and tokens[end] in self.numbers:
                return [Reading((*completion.request.tokens, *tokens[:end]))]
            if len(text) < len(head):
                break
        return []

    def compute(
        self, prompts: Array, prompt_positions: Array, tokens: Array, positions: Array
    ) -> Array:
        """The logits of each completion, [P, G, n]: 9 for numbers."""
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


def server_yes(answer: Answer, place: int, url: str) -> tuple[float] | None:
    """The probability of Yes among Yes and No, from the log-probabilities that a server sends.

    None where the word is not one token. A word that is not among the likeliest tokens, as far as
    the server sends them, has a share of 0.

    Args:
        place: where in the text the word begins.

    Raises:
        ValueError: the server sent no log-probabilities, or none at the word.
    """
    if not any(token.top for token in answer.tokens):
        raise ValueError(_NO_TOP.format(url, "its tokens"))
    head, end = len(answer.text[:place].encode()), 0
    for token in answer.tokens:
        start, end = end, end + len(token.data)
        spaces = len(token.text) - len(token.text.lstrip())
        if start + spaces == head < end and _word(token.text) in YES_NO:
            if not token.top:
                raise ValueError(_NO_TOP.format(url, "its Yes or No"))
            return (_yes(token),)
    return None


def _yes(token: Token) -> float:
    likely = {**token.top, token.text: token.logprob}
    words = {text: x for text, x in likely.items() if _word(text) in YES_NO}
    logits = list(words.values())
    return yes_share(logits, [_word(text) == YES_NO[0] for text in words])


def _word(token: str) -> str:
    return token.strip().lower()


_NO_TOP = (
    "{} sent no top_logprobs of {}, which the score is made of: use the kind judge (for Yes and No "
    "a template that asks for a score), or a server that sends them."
)
