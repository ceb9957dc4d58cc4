"""What went wrong, as a status and a sentence: {"error": {"message", "type", "param", "code"}}.

OpenAI's form, which vLLM has too. No error is a score: clients retry a 5xx, and stop at a 4xx.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from grm_jax.serve.job import Busy, Fault
from grm_jax.text.messages import repair_surrogates

UNREADABLE = "no_verdict"
# The folders of a path: where things are on this machine is nobody's business.
_FOLDERS = re.compile(r"(?<![\w.:/])(?:/[\w.-]+)*/(?=[\w.-]+)")
# What the framework says in two words.
_SAID = {
    "Not Found": "Not Found: there is nothing here under this path; openapi.json has every route.",
    "Method Not Allowed": "Method Not Allowed: openapi.json has the method of every route.",
    "There was an error parsing the body": "the body cannot be read: it must be a JSON object.",
}
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> Any:
    """The JSON of an error."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    said = _FOLDERS.sub("", _sentence(_SAID.get(message, repair_surrogates(message))))
    param = param and repair_surrogates(param)
    return {"error": {"message": said, "type": kind, "param": param, "code": code or status}}


def refused(message: str, status: int = 422, code: str | None = None) -> HTTPException:
    """An error that a route raises."""
    return HTTPException(status, {"message": message, "code": code})


@contextmanager
def as_refusals() -> Iterator[None]:
    """Turns a ValueError, which is a sentence about what was sent, into a 422."""
    try:
        yield
    except ValueError as error:
        raise refused(str(error)) from None


def install(app: FastAPI) -> None:
    """Has an app answer in this form."""

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StarletteHTTPException)
        detail: Any = error.detail
        given = detail if isinstance(detail, Mapping) else {"message": str(detail)}
        content = body(error.status_code, given["message"], code=given.get("code"))
        return JSONResponse(content, error.status_code, error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        status, message, param = _explain(error)
        return JSONResponse(body(status, message, param), status)

    async def busy(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Busy)
        headers = {"Retry-After": str(error.retry_after)}
        return JSONResponse(body(429, str(error)), 429, headers)

    async def fault(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(body(503, str(error)), 503, {"Retry-After": "1"})

    async def bug(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(body(500, "this is a bug in grm_jax: the server's log says more."), 500)

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Busy, busy)
    app.add_exception_handler(Fault, fault)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _explain(error: RequestValidationError) -> tuple[int, str, str | None]:
    """A status, a sentence and a parameter for the first thing that is wrong with a body."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return 400, f"the body is not JSON: {first['ctx']['error']}.", None
    if not path and first["type"] == "string_unicode":
        return 422, "the name of a field holds half a character of UTF-16.", None
    if not path:
        return 422, "the body must be a JSON object, with content-type application/json.", None
    where, said = ".".join(path)[:80], first["msg"]
    if first["type"] == "missing":
        return 422, f"{where} is missing; openapi.json has every field of every route.", where
    if first["type"] == "extra_forbidden":
        return 422, f"there is no field {where}.", where
    message = said.removeprefix("Value error, ")
    return 422, f"{where}: {message[:1].lower()}{message[1:]}", where
