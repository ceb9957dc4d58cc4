"""`EndpointJudge`: judgments from a model behind an OpenAI-compatible server.

Prompts, orders and parser are those of `Judge`; retries and timeouts are the openai client's.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from grm_jax.judging.answer import Answer, completion, read_answer
from grm_jax.judging.folder import Writes
from grm_jax.judging.judge import item_key, read_judgment, response_order
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.token_prob import check_count, told_shares, weighed
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates, render

_TOP = 20  # what OpenAI gives at most
# Capitals, digits and underscores, no word of which is as long as a key.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]{0,15}(_[A-Z0-9]{1,15})*")
_SENT = 3  # keeps the seeds that are sent apart from the orders and ties that judge.py draws


@dataclass(frozen=True)
class EndpointConfig:
    """Which server is asked, and how.

    `api_key_env` names the environment variable with the key; where it is unset, none is sent. It
    is sent as a bearer's, or as it stands where it begins with another scheme ("Basic ..").
    Without an answer in `timeout` seconds, without a connection, and at a status of 408, 409, 429
    or 5xx the client asks again, `retries` times, ever later or when Retry-After says (if that is
    within two minutes). `templates`: see `load_templates`. Prices are per million tokens.

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


class EndpointJudge:
    """Asks a server for judgments, several at a time; `usage` counts what that takes.

    Args:
        seed: with an Example's id and the number of a sample it decides the order of the
            responses and the seed that is sent.
        kind, training, hinted, reference: as for `Judge`.

    Raises:
        ValueError, FileNotFoundError: no openai client, or no such or no readable templates.
    """

    on_devices = False

    def __init__(
        self,
        config: EndpointConfig,
        *,
        seed: int = 0,
        training: bool = False,
        hinted: bool = False,
        reference: bool = False,
        kind: Writes = "grm",
    ):
        try:
            import openai
        except ImportError:
            message = "an endpoint needs openai: pip install 'grm-jax[endpoint]'."
            raise ValueError(message) from None
        self.config, self.seed, self.kind = config, seed, kind
        self.training, self.hinted, self.reference = training, hinted, reference
        self.templates = load_templates(config.templates)
        self.usage, self._counting = Usage(), threading.Lock()
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

    def sample_all(self, examples: Iterable[Example], k: int = 8) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished.

        An Example is refused if one of its questions finally fails; the others go on. Memory does
        not grow with the number of Examples.

        Raises:
            ValueError: k is not positive.
        """
        if k < 1:
            raise ValueError(f"k is {k}; a verdict needs at least one sample.")
        stream, most = iter(examples), self.config.concurrency
        # One thread follows each Example; those that ask are another pool's, shared by all.
        followers, askers = ThreadPoolExecutor(most), ThreadPoolExecutor(most)
        flying: set[Future[Sampled | Refusal]] = set()
        finished = set()
        try:
            while True:
                # New questions leave before results do: what is done with those may take long.
                while len(flying) < most and (example := next(stream, None)) is not None:
                    flying.add(followers.submit(self._sample, askers, example, k))
                yield from [future.result() for future in finished]
                if not flying:
                    return
                finished, flying = wait(flying, return_when=FIRST_COMPLETED)
        finally:
            for pool in (followers, askers):
                pool.shutdown(wait=False, cancel_futures=True)

    def _sample(self, askers: ThreadPoolExecutor, example: Example, k: int) -> Sampled | Refusal:
        """All judgments of one Example; the first failure takes back what was not yet asked."""
        try:
            judgments = askers.map(lambda sample: self._ask(example, sample), range(k))
            return Sampled(example, tuple(judgments))
        except ConnectionError as error:  # what was not had now may be had another time
            return Refusal(example.id, str(error), passing=True)
        except ValueError as error:
            return Refusal(example.id, str(error))

    def _ask(self, example: Example, sample: int) -> Judgment:
        """One judgment. Runs on a thread of a pool.

        Raises:
            ValueError: there is none, and why. ConnectionError: nor was there an answer.
        """
        item, templates = item_key(example.digest), self.templates
        order = response_order(self.seed, item, sample, example.n)
        if self.kind == "token-prob":
            check_count(example.n)
        template = templates.asking(self.kind, example.n, training=self.training)
        shown = example.permuted(order)
        turns = render(shown, template, hint=self.hinted, reference=self.reference)
        rng = np.random.default_rng([self.seed, item, sample, _SENT])
        answer = self._complete([asdict(turn) for turn in turns], int(rng.integers(2**31)))
        judgment = read_judgment(
            answer.text,
            template,
            sample=sample,
            order=order,
            tokens=answer.completion_tokens,
            cut_off=answer.cut_off,
        )
        if self.kind != "token-prob" or judgment.scores is None:
            return judgment
        shares = told_shares(answer, example.n, self.config.url, template.label)
        return weighed(judgment, shares)

    def answer(self, turns: list[dict[str, str]], seed: int) -> str:
        """What the server writes after these turns, which ask for no judgment.

        Raises:
            ValueError: it is one that cannot be read. ConnectionError: there is none.
        """
        return self._complete(turns, seed).text

    def _complete(self, messages: Any, seed: int) -> Answer:
        """The server's answer, counted.

        Raises:
            ValueError: it is one that cannot be read. ConnectionError: there is none.
        """
        import openai

        config, ask = self.config, self._client.chat.completions.with_raw_response.create
        sent = {n: getattr(config, n) for n in ("model", "temperature", "top_p", "max_tokens")}
        if self.kind == "token-prob":
            sent |= {"logprobs": True, "top_logprobs": _TOP}
        try:
            raw = ask(messages=messages, seed=seed, extra_headers=self._headers, **sent)
        except UnicodeError as error:  # the client reads an error as its headers say
            self._count(0)
            raise ConnectionError(
                f"{config.url} sent an error whose text is not as its headers say ({error})."
            ) from None
        except openai.APIError as error:
            self._count(int(error.request.headers.get("x-stainless-retry-count", 0)))
            told = f"gave no answer ({error.__cause__ or error})."
            if isinstance(error, openai.APIStatusError):
                told = f"answered {error.status_code}: {self._start(_text(error.response.content))}"
            raise ConnectionError(f"{config.url} {told}") from None
        said = _text(raw.content)
        body = completion(said)
        if body is None:
            self._count(raw.retries_taken)
            raise ConnectionError(f"{config.url} sent no chat completion: {self._start(said)}")
        try:
            answer = read_answer(body, logprobs=self.kind == "token-prob")
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
