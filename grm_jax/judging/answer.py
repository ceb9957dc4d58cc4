"""A server's chat completion: what of it is read, each part looked at before it is used.

Servers that call themselves OpenAI-compatible send all kinds of things: what is none of OpenAI's
is a sentence about this answer, never a score.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grm_jax.text.messages import repair_surrogates


@dataclass(frozen=True)
class Token:
    """One token of an answer: its text and bytes, and the log-probabilities at its place."""

    text: str
    data: bytes
    logprob: float
    top: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """An answer: its text ("" where the model refused, called a tool, or was still thinking).

    cut_off: the length limit ended it. tokens: only where log-probabilities were asked for.
    """

    text: str
    cut_off: bool
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[Token, ...] = ()


def completion(text: str) -> dict[str, Any] | None:
    """The chat completion that a server sent; None if it is none at all, such as a page."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and body.get("choices") else None


def count(body: Mapping[str, Any], name: str) -> int:
    """A number of tokens as the server tells it; 0 where it tells none.

    Raises:
        ValueError: it is no number of tokens.
    """
    usage = body.get("usage")
    told = usage.get(name) if isinstance(usage, dict) else usage
    if told is None:
        return 0
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told < 2**53:
        raise ValueError(f"usage.{name} is {_short(told)}")
    return int(told)


def read_answer(body: Mapping[str, Any], *, logprobs: bool) -> Answer:
    """The first choice of a chat completion.

    Raises:
        ValueError: a part that is not what OpenAI's is; says which one.
    """
    choice = _first(body.get("choices"))
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError(f"choices[0].message is {_short(message)}")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise ValueError(f"choices[0].message.content is {_short(content)} and no text")
    return Answer(
        text=repair_surrogates(content or ""),
        cut_off=choice.get("finish_reason") == "length",
        prompt_tokens=count(body, "prompt_tokens"),
        completion_tokens=count(body, "completion_tokens"),
        tokens=tuple(map(_token, _entries(choice))) if logprobs else (),
    )


def _first(choices: Any) -> dict[str, Any]:
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise ValueError(f"choices is {_short(choices)}")
    return choices[0]


def _entries(choice: Mapping[str, Any]) -> Sequence[Any]:
    """The tokens of a choice with their log-probabilities; none where the server sent none."""
    told = choice.get("logprobs")
    entries = told.get("content") if isinstance(told, dict) else told
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ValueError(f"choices[0].logprobs is {_short(told)}")
    return entries


def _token(entry: Any) -> Token:
    text, logprob = _told(entry)
    top = entry.get("top_logprobs")
    if not isinstance(top, list | None):
        raise ValueError(f"top_logprobs of the token {text!r} is {_short(top)}")
    data = entry.get("bytes")
    if data is None:
        data = list(text.encode())
    if not isinstance(data, list) or not all(type(b) is int and 0 <= b < 256 for b in data):
        raise ValueError(f"bytes of the token {text!r} is {_short(data)}")
    return Token(text, bytes(data), logprob, dict(map(_told, top or ())))


def _told(entry: Any) -> tuple[str, float]:
    """A token and its log-probability; minus infinity is one, and what is no number is not."""
    entry = entry if isinstance(entry, dict) else {}
    text, logprob = entry.get("token"), entry.get("logprob")
    if not isinstance(text, str):
        raise ValueError(f"a token of logprobs is {_short(text)}")
    number = isinstance(logprob, int | float) and not isinstance(logprob, bool)
    if not number or (not -sys.float_info.max <= logprob < 1 and logprob != -math.inf):
        # Not more than 0, but for a rounding; and a whole number may be larger than any float.
        raise ValueError(f"the logprob of the token {text!r} is {_short(logprob)}")
    return repair_surrogates(text), float(logprob)


def _short(value: Any) -> str:
    """A value as JSON, on one line and not too long."""
    told = " ".join(json.dumps(value).split())
    return told if len(told) <= 80 else f"{told[:80]} .."
