"""What stands before every route: who may ask, how much, and what a browser may do with a reply."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grm_jax.serve import errors
from grm_jax.serve.config import LOCAL_NAMES
from grm_jax.serve.metrics import Metrics

# They say nothing that is anyone's.
OPEN = ("/", "/page.js", "/page.css", "/health", "/ready")
_IGNORED = 2**24  # bytes of a body that are read beyond those that are taken
BODY_SECONDS = 60.0  # in which the body of a request must have arrived
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware.

    Args:
        app: is asked what passes.
        token: what callers must send as a bearer's; None: nothing.
        names: the hosts, without a port, that a request may be addressed to; None: any. It keeps
            a page elsewhere from reaching a server that listens on this machine only.
        most: bytes of a body.
        metrics: counts requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        names: tuple[str, ...] | None,
        most: int,
        metrics: Metrics,
    ):
        self._app, self._names, self._most = app, names, most
        self._token = None if token is None else token.encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499  # until there is one, the caller has gone

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await self._pass(scope, receive, sending)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - begun)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(headers, receive)
        except TimeoutError:
            await _refuse(send, 408, "the body of the request did not arrive.")
            return
        if body is None:
            await _refuse(
                send, 413, f"the body is larger than {self._most} bytes: send fewer rows at a time."
            )
            return
        await self._app(scope, _replayed(body, receive), send)

    def _refusal(self, path: str, headers: Mapping[str, bytes]) -> tuple[int, str] | None:
        """Why a request is not let in."""
        host = headers.get("host", b"").decode("latin-1")
        if self._names is not None and _name(host) not in self._names:
            return 403, "this server answers only under a name of this machine."
        origin = headers.get("origin")
        if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
            return 403, "a page of another site may not ask this server."
        given = headers.get("authorization", b"")
        if self._token is not None and path not in OPEN:
            scheme, _, sent = given.partition(b" ")
            if not hmac.compare_digest(sent.strip(), self._token) or scheme.lower() != b"bearer":
                return 401, "the bearer token is missing or wrong."
        return None

    async def _body(self, headers: Mapping[str, bytes], receive: Receive) -> bytes | None:
        """All of a body; None if it is too large.

        What is too much is read too, within bounds, and not kept: who is still sending when a
        connection ends does not get to read why.
        """
        length = headers.get("content-length", b"0")
        if not length.isdigit() or len(length) > 15 or int(length) > self._most + _IGNORED:
            return None
        parts, size, more = [], 0, True
        while more and size <= self._most + _IGNORED:
            message = await receive()
            more = message.get("more_body", False)
            size += len(message.get("body", b""))
            if size <= self._most:
                parts.append(message.get("body", b""))
        return b"".join(parts) if size <= self._most else None


def local_names(host: str) -> tuple[str, ...]:
    """The names of this machine that a server on a loopback address answers to."""
    return (*LOCAL_NAMES, host if ":" not in host else f"[{host}]")


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, and then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(send: Send, status: int, message: str) -> None:
    content = json.dumps(errors.body(status, message)).encode()
    headers: dict[str, Any] = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        # What was not read of the body is not read as another request.
        "connection": "close",
    }
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
