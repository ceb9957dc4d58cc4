"""Prompts and completions as trainers hand them over: messages, plain text, or a rendered chat."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from grm_jax.text.messages import ROLES, joined_parts, kind, turn_role

Prompt = str | Sequence[Mapping[str, Any]]

# One turn as the chat templates of Gemma, of ChatML (Qwen and others) and of Llama 3 write it.
TURNS = (
    re.compile(r"<start_of_turn>(\w+)\n(.*?)(?:<end_of_turn>\n?|\Z)", re.S),
    re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n?|\Z)", re.S),
    re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>|\Z)", re.S),
)
# What ends an answer, where it was decoded with its special tokens.
END = re.compile(
    r"(?:\s*(?:<end_of_turn>|<eos>|</s>|<pad>"
    r"|<\|(?:im_end|endoftext|eot_id|end_of_text|eom_id)\|>))+\s*\Z"
)


def prompt_of(rendered: str) -> Prompt:
    """The messages in a prompt that went through a chat template; other text stays as it is.

    What the template has begun of the answer is left out.
    """
    for turn in TURNS:
        found = turn.findall(rendered)
        if not found:
            continue
        turns = [{"role": ROLES.get(role, role), "content": text.strip()} for role, text in found]
        return turns[:-1] if len(turns) > 1 and turns[-1]["role"] == "assistant" else turns
    return rendered


def response_of(rendered: str) -> str:
    """The answer without the special tokens that end it."""
    return END.sub("", rendered)


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
    return response_of(query[len(prompt) :])


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
