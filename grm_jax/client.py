"""A judge behind `grm serve`, with the objects of `Judge`.

from grm_jax.client import Client
judge = Client("http://localhost:8000")
verdict = judge(Example(prompt="What is 37+45?", responses=["82", "81"]), k=8)

What may be gone at the next try (no connection, a busy server, one that has just ended) is tried
again, ever later or when the server says; a judgment has the same bits at every try.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from grm_jax.judging.endpoint import concurrently
from grm_jax.judging.judgment import Judgment, Refusal, Verdict
from grm_jax.serve.wire import judgment_from_json, verdict_from_json
from grm_jax.text.messages import Example

_PASSING = (408, 429, 500, 502, 503, 504)
_PATIENCE = 120.0  # seconds that a server may ask for; a longer wait is not waited for
_PATH = "/v1/judge"


@dataclass(frozen=True)
class ClientConfig:
    """Which server is asked, and how.

    Args:
        url: where `grm serve` listens.
        token: the bearer token, if the server needs one.
        reference: show the reference answer of an Example that has one.
        retries: further tries of a request.
        backoff: seconds before the first of them; each later one waits twice as long, 30 s at most.
        timeout: seconds for one try; a busy server may need them.
        concurrency: requests under way at a time, in `judge_all`.
    """

    url: str = "http://127.0.0.1:8000"
    token: str | None = None
    reference: bool = False
    retries: int = 8
    backoff: float = 0.5
    timeout: float = 600.0
    concurrency: int = 32

    def http(self) -> dict[str, Any]:
        """The arguments of an httpx client."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.concurrency)
        return {
            "base_url": self.url.rstrip("/"),
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout, connect=30.0),
            "limits": limits,
        }

    def body(self, example: Example, k: int | None, **more: Any) -> dict[str, Any]:
        """The request for a verdict on an Example."""
        body = {
            "prompt": [{"role": turn.role, "content": turn.content} for turn in example.prompt],
            "responses": example.responses,
            "id": example.id,
            "k": k,
            "reference": example.reference,
            "show_reference": self.reference,
            "principles": example.principles,
        }
        return {name: value for name, value in (body | more).items() if value is not None}

    def pause(self, tries: int, asked: float | None) -> float:
        """Seconds until the next try, after so many: what the server asked for, or ever longer,
        not all clients at the same time."""
        if asked is not None and asked <= _PATIENCE:
            return asked + random.uniform(0, self.backoff)
        return min(self.backoff * 2**tries, 30.0) * random.uniform(0.5, 1.0)


class _Again(Exception):
    """A try failed that may succeed later; `asked`: when, in seconds, says the server."""

    def __init__(self, message: str, asked: float | None = None):
        super().__init__(message)
        self.asked = asked


class Client:
    """Judges as `Judge` does, by asking a server. Close it, or use it in a `with` block.

    Args: as `ClientConfig`.
    """

    def __init__(self, url: str = ClientConfig.url, **settings: Any):
        self.config = ClientConfig(url, **settings)
        self._http = httpx.Client(**self.config.http())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __call__(self, example: Example, k: int | None = None, **more: Any) -> Verdict:
        """The verdict of k samples, by default the server's k; `more`: seed, temperature.

        Raises:
            ValueError: the Example cannot be judged, and why.
            ConnectionError: there was no answer, however often it was asked.
        """
        body = self.config.body(example, k, **more)
        for tries in range(self.config.retries + 1):
            try:
                with _passing():
                    return verdict_from_json(_read(self._http.post(_PATH, json=body)))
            except _Again as again:
                if tries == self.config.retries:
                    raise ConnectionError(f"{self.config.url}: {again}") from None
                time.sleep(self.config.pause(tries, again.asked))
        raise AssertionError

    def judge_all(
        self, examples: Iterable[Example], k: int | None = None, **more: Any
    ) -> Iterator[Verdict | Refusal]:
        """Judges a stream, several at a time; yields in the order in which Examples are done."""
        ask = partial(self._or_refusal, k=k, **more)
        yield from concurrently(ask, examples, self.config.concurrency)

    def _or_refusal(self, example: Example, **settings: Any) -> Verdict | Refusal:
        try:
            return self(example, **settings)
        except (ValueError, ConnectionError) as error:
            return _refusal(example, error)

    def stream(
        self, example: Example, k: int | None = None, **more: Any
    ) -> Iterator[Judgment | Verdict]:
        """The judgments as they come, and then the verdict. Errors as for a call; no retries."""
        body = self.config.body(example, k, stream=True, **more)
        try:
            with _passing(), self._http.stream("POST", _PATH, json=body) as response:
                if response.status_code != 200:
                    response.read()
                    _read(response)
                events = _Events()
                for line in response.iter_lines():
                    if (event := events.add(line)) is not None:
                        yield event
        except _Again as again:
            raise ConnectionError(f"{self.config.url}: {again}") from None


class AsyncClient:
    """The same for asyncio. Close it, or use it in an `async with` block."""

    def __init__(self, url: str = ClientConfig.url, **settings: Any):
        self.config = ClientConfig(url, **settings)
        self._http = httpx.AsyncClient(**self.config.http())

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __call__(self, example: Example, k: int | None = None, **more: Any) -> Verdict:
        """As `Client`; a call that is cancelled is given up by the server too."""
        body = self.config.body(example, k, **more)
        for tries in range(self.config.retries + 1):
            try:
                with _passing():
                    return verdict_from_json(_read(await self._http.post(_PATH, json=body)))
            except _Again as again:
                if tries == self.config.retries:
                    raise ConnectionError(f"{self.config.url}: {again}") from None
                await asyncio.sleep(self.config.pause(tries, again.asked))
        raise AssertionError

    async def judge_all(
        self, examples: Iterable[Example], k: int | None = None, **more: Any
    ) -> AsyncIterator[Verdict | Refusal]:
        """Judges a stream, several at a time; yields in the order in which Examples are done."""
        stream = iter(examples)
        under_way: set[asyncio.Task[Verdict | Refusal]] = set()
        try:
            while True:
                while len(under_way) < self.config.concurrency:
                    if (example := next(stream, None)) is None:
                        break
                    under_way.add(asyncio.create_task(self._or_refusal(example, k, **more)))
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in under_way:
                task.cancel()

    async def _or_refusal(self, example: Example, k: int | None, **more: Any) -> Verdict | Refusal:
        try:
            return await self(example, k, **more)
        except (ValueError, ConnectionError) as error:
            return _refusal(example, error)

    async def stream(
        self, example: Example, k: int | None = None, **more: Any
    ) -> AsyncIterator[Judgment | Verdict]:
        """The judgments as they come, and then the verdict. Errors as for a call; no retries."""
        body = self.config.body(example, k, stream=True, **more)
        events = _Events()
        try:
            with _passing():
                async with self._http.stream("POST", _PATH, json=body) as response:
                    if response.status_code != 200:
                        await response.aread()
                        _read(response)
                    async for line in response.aiter_lines():
                        if (event := events.add(line)) is not None:
                            yield event
        except _Again as again:
            raise ConnectionError(f"{self.config.url}: {again}") from None


@dataclass
class _Events:
    """Reads server-sent events, line by line."""

    kind: str = ""
    data: list[str] = field(default_factory=list)

    def add(self, line: str) -> Judgment | Verdict | None:
        """What an event is, once its last line is there; None before, and for others."""
        name, _, value = line.partition(": ")
        if line and name == "event":
            self.kind = value
        elif line and name == "data":
            self.data.append(value)
        elif not line and self.data:
            row, self.data = json.loads("".join(self.data)), []
            if self.kind == "error":
                error = row["error"]
                raise _error(error["message"], error["type"] == "server_error")
            if self.kind == "vote":
                return judgment_from_json(row)
            if self.kind == "verdict":
                return verdict_from_json(row)
        return None


@contextmanager
def _passing() -> Iterator[None]:
    """Turns what ends a connection into something to try again."""
    try:
        yield
    except httpx.TransportError as error:
        raise _Again(f"no answer ({str(error) or type(error).__name__}).") from None


def _read(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        _Again: it may be another at the next try. ValueError: it will not.
    """
    if response.status_code == 200:
        return response.json()
    try:
        said = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        said = f"the server answered {response.status_code}: {response.text[:200]!r}"
    again = response.status_code in _PASSING
    raise _error(said, again, _seconds(response.headers.get("Retry-After")))


def _error(said: str, again: bool, asked: float | None = None) -> Exception:
    return _Again(said, asked) if again else ValueError(said)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by the server."""
    return float(header) if header is not None and header.isdecimal() else None


def _refusal(example: Example, error: Exception) -> Refusal:
    return Refusal(example.id, str(error), passing=isinstance(error, ConnectionError))
