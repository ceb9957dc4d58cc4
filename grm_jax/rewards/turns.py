"""Prompts and completions as trainers hand them over: messages, plain text, or a rendered chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grm_jax.text.messages import joined_parts, kind, turn_role
from grm_jax.text.rendered import is_rendered, split_turns, without_end

Prompt = str | Sequence[Mapping[str, Any]]


def prompt_of(rendered: str) -> Prompt:
    """The messages in a prompt that went through a chat template; other text stays as it is.

    What the template has begun of the answer is left out.
    """
    turns, _ = split_turns(rendered)
    if is_rendered(rendered):
        return [{"role": turn.role, "content": turn.content} for turn in turns]
    return rendered


def answer_in(query: str, prompt: str) -> str:
    """The answer in a decoded sequence that begins with its prompt.

    Raises:
        ValueError: it does not.
    """
    if not query.startswith(prompt):
        raise ValueError(
            "a query does not begin with its prompt, so that the answer in it cannot be told: the "
            "prompt was cut to fit, or the tokenizer does not give back the text that it is given."
        )
    return without_end(query[len(prompt) :])


def response_text(completion: Any) -> str:
    """The text that is judged of a completion: itself, or the last turn of a list of messages.

    Raises:
        ValueError: it is neither, or the last turn is not the assistant's.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence) or not completion:
        raise ValueError(f"a completion is {kind(completion)}: give text, or a list of messages")
    last = completion[-1]
    if not isinstance(last, Mapping) or turn_role(last) != "assistant":
        raise ValueError("the last turn of a completion is not the assistant's: nothing is judged")
    # A turn that only calls tools has no text.
    content = last.get("content")
    return "" if content is None else joined_parts(content, "a completion")
