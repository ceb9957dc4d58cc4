"""How a judge that writes is asked, and how what it writes is read.

The one way from an Example and an order of its responses to a prompt, and from a text back to a
Judgment: a model folder, a server and the rollouts of training share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grm_jax.judging.judgment import Judgment, restore
from grm_jax.sampling.request import Completion
from grm_jax.text.messages import Example, Message
from grm_jax.text.parse import parse_answer, parse_choice, parse_judgment
from grm_jax.text.prompts import Template, Templates
from grm_jax.text.reasoning import answer_start
from grm_jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Asking:
    """What a judge is shown.

    Attributes:
        templates: the prompts to choose from.
        task: the template: "grm", a score for each response; "judge", the number of the best one;
            "meta", a critique.
        training: one response is scored right or wrong, as in RFT and RL.
        hinted: the prompt names the best response, as in hinted sampling.
        reference: the prompt shows the reference answer of an Example that has one.
    """

    templates: Templates
    task: str = "grm"
    training: bool = False
    hinted: bool = False
    reference: bool = False

    def template(self, n: int) -> Template:
        """The template for n responses."""
        return self.templates.asking(self.task, n, training=self.training)

    def messages(self, example: Example, order: Sequence[int] | None = None) -> list[Message]:
        """The turns that ask for a judgment of the responses in this order, or as they stand.

        Raises:
            ValueError: the template does not fit the Example, see `render`.
        """
        shown = example if order is None else example.permuted(order)
        return self.templates.ask(
            self.task, shown, training=self.training, hint=self.hinted, reference=self.reference
        )

    def ask(self, example: Example, order: Sequence[int] | None, tokenizer: Tokenizer) -> list[int]:
        """The same as token ids, up to where the model begins to write."""
        return tokenizer.encode_chat(self.messages(example, order))


def read_completion(
    completion: Completion, tokenizer: Tokenizer, template: Template, order: tuple[int, ...]
) -> Judgment:
    """The judgment in what a model has written, see `read_judgment`."""
    text, start = written(completion.tokens.tolist(), tokenizer)
    return read_judgment(
        text,
        template,
        start=start,
        sample=completion.sample,
        order=order,
        tokens=len(completion.tokens),
        logprob=float(completion.logprobs.sum()),
        cut_off=not completion.finished,
    )


def written(tokens: Sequence[int], tokenizer: Tokenizer) -> tuple[str, int | None]:
    """What a model has written, and where its answer begins in it: after its reasoning.

    None: the reasoning does not end. Where `</think>` is a token, only that ends it: the same
    letters may be quoted from a response.
    """
    text = tokenizer.opened + tokenizer.decode_completion(tokens)
    start = answer_start(text)
    if start == 0 or tokenizer.reasoning is None:
        return text, start
    opening, closing = tokenizer.reasoning
    if not tokenizer.opened and opening not in tokens:
        return text, start
    if closing not in tokens:
        return text, None
    reasoning = tokens[: tokens.index(closing) + 1]
    return text, len(tokenizer.opened + tokenizer.decode_completion(reasoning))


def read_judgment(
    text: str,
    template: Template,
    *,
    sample: int,
    order: tuple[int, ...],
    tokens: int,
    logprob: float = math.nan,
    cut_off: bool = False,
    start: int | None = 0,
) -> Judgment:
    """A written judgment, parsed: its scores go back to the order of the Example.

    Where the template asks for a choice, the chosen response scores 1 and all others 0; in a tie
    all score alike.
    order: order[i] is the index of the response that was shown in position i. cut_off: the length
    limit ended the text, which is then the reason why it has no scores. start: where the answer
    begins, after reasoning, which is not read; None: the reasoning does not end.
    """
    n, label = len(order), template.label
    answer = "" if start is None else text[start:]
    criteria = None
    if template.answer is not None:
        low, high = template.low, template.high
        parsed = parse_answer(answer, template.answer, n, low, high, cut_off=cut_off)
        shown = parsed.scores
        criteria = {name: restore(said, order) for name, said in parsed.criteria.items()} or None
    elif template.chooses:
        parsed = parse_choice(answer, n, label=label, cut_off=cut_off)
        chosen = parsed.index
        shown = None if chosen is None else [int(i == chosen) for i in range(n)]
    else:
        low, high = template.low, template.high
        parsed = parse_judgment(answer, n, low, high, label=label, cut_off=cut_off)
        shown = parsed.scores
    scores = None if shown is None else restore(shown, order)
    reason = "unfinished_reasoning" if start is None else parsed.reason
    return Judgment(
        sample=sample,
        order=order,
        principles=parsed.principles,
        critique=parsed.critique,
        scores=scores,
        reason="truncated" if reason is not None and cut_off else reason,
        text=text,
        tokens=tokens,
        logprob=logprob,
        counted=scores is not None,
        criteria=criteria,
    )
