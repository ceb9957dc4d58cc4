"""`EndpointJudge`: judgments from a model behind an OpenAI-compatible server.

Prompts, orders and parser are those of `Judge`; retries and timeouts are the openai client's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grm_jax.judging.folder import Writes
from grm_jax.judging.judge import item_key, read_judgment, response_order
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.token_prob import check_count, told_shares, weighed
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example, repair_surrogates
from grm_jax.text.prompts import load_templates, render

_TOP = 20  # what OpenAI gives at most
_SENT = 3  # keeps the seeds that are sent apart from the orders and ties that judge.py draws


@dataclass(frozen=True)
class EndpointConfig:
    """Which server is asked, and how.

    `api_key_env` names the environment variable with the key; where it is unset, none is sent.
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
        if not self.api_key_env.isidentifier():
            # Its value is not shown: it may well be the key.
            raise ValueError("api_key_env is no variable's name; give that, not the key itself.")
        Strategy(self.temperature, top_p=self.top_p)
        paired = (self.price_in is None) == (self.price_out is None)
        for name, good, advice in (
            (
                "url",
                self.url.startswith("http"),
                "give a base URL, such as http://localhost:8000/v1",
            ),
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
        key = os.environ.get(config.api_key_env, "").strip()
        self._headers = {} if key else {"Authorization": openai.Omit()}
        self._client = openai.OpenAI(
            base_url=config.url,
            # Without any, the client would send OPENAI_API_KEY to whatever server this is.
            api_key=key or "none",
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
        except ValueError as error:
            return Refusal(example.id, str(error))

    def _ask(self, example: Example, sample: int) -> Judgment:
        """One judgment. Raises ValueError: there is none, and why. Runs on a thread of a pool."""
        item, templates = item_key(example.digest), self.templates
        order = response_order(self.seed, item, sample, example.n)
        if self.kind == "token-prob":
            check_count(example.n)
        template = templates.asking(self.kind, example.n, training=self.training)
        shown = example.permuted(order)
        turns = render(shown, template, hint=self.hinted, reference=self.reference)
        rng = np.random.default_rng([self.seed, item, sample, _SENT])
        completion = self._complete([asdict(turn) for turn in turns], int(rng.integers(2**31)))
        choice = completion.choices[0]
        said = getattr(choice.message, "content", None)
        # No text where the model refused, called a tool, or was still thinking.
        text = repair_surrogates(said) if isinstance(said, str) else ""
        judgment = read_judgment(
            text,
            template,
            sample=sample,
            order=order,
            tokens=_tokens(completion, "completion_tokens"),
            cut_off=choice.finish_reason == "length",
        )
        if self.kind != "token-prob" or judgment.scores is None:
            return judgment
        return weighed(
            judgment, told_shares(choice, text, example.n, self.config.url, template.label)
        )

    def answer(self, turns: list[dict[str, str]], seed: int) -> str:
        """What the server writes after these turns, which ask for no judgment. Raises ValueError:
        there is none, and why."""
        said = getattr(self._complete(turns, seed).choices[0].message, "content", None)
        return repair_surrogates(said) if isinstance(said, str) else ""

    def _complete(self, messages: Any, seed: int) -> Any:
        """The server's chat completion, counted. Raises ValueError: there is none, and why."""
        import openai

        config, ask = self.config, self._client.chat.completions.with_raw_response.create
        sent = {n: getattr(config, n) for n in ("model", "temperature", "top_p", "max_tokens")}
        if self.kind == "token-prob":
            sent |= {"logprobs": True, "top_logprobs": _TOP}
        try:
            raw = ask(messages=messages, seed=seed, extra_headers=self._headers, **sent)
        except openai.APIError as error:
            self._count(int(error.request.headers.get("x-stainless-retry-count", 0)))
            told = f"gave no answer ({error.__cause__ or error})."
            if isinstance(error, openai.APIStatusError):
                told = f"answered {error.status_code}: {_start(error.response.text)}"
            raise ValueError(f"{config.url} {told}") from None
        completion = None
        with suppress(ValueError):  # a server that sends no JSON
            completion = raw.parse()
        self._count(raw.retries_taken, completion)
        if not getattr(completion, "choices", None):
            raise ValueError(f"{config.url} sent no chat completion: {_start(raw.text)}")
        return completion

    def _count(self, retries: int, completion: Any = None) -> None:
        total, config = self.usage, self.config
        with self._counting:
            total.requests += 1
            total.retries += retries
            total.prompt_tokens += _tokens(completion, "prompt_tokens")
            total.completion_tokens += _tokens(completion, "completion_tokens")
            if config.price_in is not None and config.price_out is not None:
                cost = total.prompt_tokens * config.price_in
                total.cost = (cost + total.completion_tokens * config.price_out) / 1e6


def _tokens(completion: Any, name: str) -> int:
    """A number of tokens as the server tells it, or 0."""
    return getattr(getattr(completion, "usage", None), name, None) or 0


def _start(text: str) -> str:
    """The first words of what a server said, on one line."""
    return " ".join(text.split())[:200]
