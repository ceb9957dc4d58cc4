"""An OpenAI-compatible server: its address and key, one request, and what was asked so far.

Retries and timeouts are the openai client's.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from grm_jax.judging.answer import Answer, completion, read_answer
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Message

_TOP = 20  # the most likely tokens that are asked for, as many as OpenAI gives at most
# Options that are sent with every request; and all fields that are not for `extra_body`.
_OPTIONS = ("model", "temperature", "top_p", "max_tokens")
_OURS = {*_OPTIONS, "messages", "seed", "logprobs", "top_logprobs", "n", "stream"}
# Capitals, digits and underscores, no word of which is as long as a key.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]{0,15}(_[A-Z0-9]{1,15})*")


@dataclass(frozen=True)
class EndpointConfig:
    """Which server is asked, and how.

    `api_key_env` names the environment variable with the key; where it is unset, none is sent. It
    is sent as a bearer's, or as it stands where it begins with another scheme ("Basic ..").
    Without an answer in `timeout` seconds, without a connection, and at a status of 408, 409, 429
    or 5xx the client asks again, `retries` times, ever later or when Retry-After says (if that is
    within two minutes). `templates`: see `load_templates`. `extra_body`: fields of the request that
    OpenAI does not have, such as `{repeat_penalty: 1.0}`, since a server that penalises repetition
    keeps a judge from quoting; they are written beside every result, so no key belongs there.
    Prices are per million tokens.

    Raises:
        ValueError: a value outside its range.
    """

    url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    retries: int = 5
    timeout: float = 120.0
    max_tokens: int = 1024
    temperature: float = 0.5
    top_p: float = 1.0
    extra_body: dict[str, Any] | None = None
    templates: str | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        # What may hold a secret is not shown, and nothing is written before it is refused.
        if not _VARIABLE.fullmatch(self.api_key_env) and self.api_key_env not in os.environ:
            raise ValueError(
                "api_key_env is no variable's name, such as OPENAI_API_KEY; give that, and not the "
                "key itself, which would be written beside every result."
            )
        _check_url(self.url)
        Strategy(self.temperature, top_p=self.top_p)
        _check_extra(self.extra_body or {})
        paired = (self.price_in is None) == (self.price_out is None)
        for name, good, advice in (
            ("model", self.model != "", "give the name by which the server knows the model"),
            ("concurrency", self.concurrency >= 1, "give 1 or more"),
            ("retries", self.retries >= 0, "give 0 (none) or more"),
            ("timeout", self.timeout > 0, "give more than 0 seconds"),
            ("max_tokens", self.max_tokens >= 1, "give 1 or more"),
            ("price_in", (self.price_in or 0) >= 0, "give 0 or more"),
            ("price_out", (self.price_out or 0) >= 0, "give 0 or more"),
            ("price_out", paired, f"price_in is {self.price_in!r}: give both prices, or neither"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; {advice}.")


@dataclass
class Usage:
    """What was asked and answered so far. Retries come on top of `requests`; no prices, no cost."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


class Server:
    """Asks a server, from any number of threads; `usage` counts what that takes.

    Raises:
        ValueError: no openai client, or a key that no header can hold.
    """

    def __init__(self, config: EndpointConfig):
        try:
            import openai
        except ImportError:
            message = "an endpoint needs openai: pip install 'grm-jax[endpoint]'."
            raise ValueError(message) from None
        self.config, self.usage = config, Usage()
        self._counting = threading.Lock()
        self._key = _key(config.api_key_env)
        sent = self._key if " " in self._key else f"Bearer {self._key}"
        self._headers = {"Authorization": sent if self._key else openai.Omit()}
        self._client = openai.OpenAI(
            base_url=config.url,
            # Without any, the client would send OPENAI_API_KEY to whatever server this is.
            api_key="none",
            timeout=config.timeout,
            max_retries=config.retries,
        )

    def complete(self, turns: Sequence[Message], seed: int, *, logprobs: bool = False) -> Answer:
        """The server's answer to a conversation, counted; with log-probabilities if asked for.

        Raises:
            ValueError: it is one that cannot be read. ConnectionError: there is none.
        """
        import openai

        config, ask = self.config, self._client.chat.completions.with_raw_response.create
        messages: Any = [asdict(turn) for turn in turns]
        sent = {name: getattr(config, name) for name in _OPTIONS}
        if logprobs:
            sent |= {"logprobs": True, "top_logprobs": _TOP}
        try:
            raw = ask(
                messages=messages,
                seed=seed,
                extra_headers=self._headers,
                extra_body=config.extra_body,
                **sent,
            )
        except UnicodeError as error:  # the client reads an error as its headers say
            self._count(0)
            raise ConnectionError(
                f"{config.url} sent an error whose text is not as its headers say ({error})."
            ) from None
        except openai.APIError as error:
            self._count(int(error.request.headers.get("x-stainless-retry-count", 0)))
            reply = f"gave no answer ({error.__cause__ or error})."
            if isinstance(error, openai.APIStatusError):
                content = self._start(_text(error.response.content))
                reply = f"answered {error.status_code}: {content}"
            raise ConnectionError(f"{config.url} {reply}") from None
        content = _text(raw.content)
        body = completion(content)
        if body is None:
            self._count(raw.retries_taken)
            raise ConnectionError(f"{config.url} sent no chat completion: {self._start(content)}")
        try:
            answer = read_answer(body, logprobs=logprobs)
        except (ValueError, RecursionError) as error:
            self._count(raw.retries_taken)
            raise ValueError(
                f"{config.url} sent an answer that cannot be read: {error}. Is it a server of "
                "OpenAI's chat completions?"
            ) from None
        self._count(raw.retries_taken, answer)
        return answer

    def _start(self, text: str) -> str:
        """The first words of what a server said, on one line; some repeat the key."""
        text = text.replace(self._key.split()[-1], "***") if self._key else text
        return " ".join(text.split())[:200]

    def _count(self, retries: int, answer: Answer | None = None) -> None:
        total, config = self.usage, self.config
        with self._counting:
            total.requests += 1
            total.retries += retries
            if answer is not None:
                total.prompt_tokens += answer.prompt_tokens
                total.completion_tokens += answer.completion_tokens
            if config.price_in is not None and config.price_out is not None:
                cost = total.prompt_tokens * config.price_in
                total.cost = (cost + total.completion_tokens * config.price_out) / 1e6


def _text(body: bytes) -> str:
    """What a server sent. JSON is UTF-8, whatever the headers say, which may be wrong."""
    return body.decode("utf-8-sig", "replace")


def _check_url(url: str) -> None:
    """Raises ValueError unless it is the address of a server and nothing else."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an odd port, or a bracket that is not closed
        parts, whole = urlsplit(""), False
    if "@" in url or "?" in url or parts.fragment:
        raise ValueError(
            "url holds a user, a password or a query, and is written beside every result: give it "
            "without them. A key is read from the environment variable that api_key_env names; for "
            "a password set that to 'Basic ' and the base64 of user:password."
        )
    if not whole or re.search(r"\s", url):
        raise ValueError(f"url is {url!r}; give a base URL, such as http://localhost:8000/v1.")


def _check_extra(fields: dict[str, Any]) -> None:
    """Raises ValueError unless a request can have these fields beside ours."""
    if ours := sorted(_OURS & fields.keys()):
        options = [f"--endpoint.{name}" for name in ours if name in _OPTIONS]
        advice = f"give {' and '.join(options)}" if options else "leave it out"
        raise ValueError(f"extra_body has {ours[0]!r}, which every request has already; {advice}.")
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"extra_body is no JSON ({error}); give numbers, words and lists."
        raise ValueError(message) from None


def _key(variable: str) -> str:
    """The key in an environment variable, "" where there is none.

    Raises:
        ValueError: it holds what no header can; the key is not shown.
    """
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ValueError(
            f"the environment variable {variable} holds more than a key (a line break, or a letter "
            "that is not ASCII): set it to the key alone."
        )
    return key
