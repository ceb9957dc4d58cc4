"""/v1/judge, our own form: one to many responses in, a verdict with every critique out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from grm_jax.judging.judgment import Judgment
from grm_jax.serve import errors
from grm_jax.serve.job import Fault, Job, Question
from grm_jax.serve.service import Service, unless_gone
from grm_jax.serve.wire import judgment_to_json, verdict_to_json

_QUIET = 15.0  # seconds after which a stream says that it is still there

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Temperature = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class JudgeRequest(BaseModel):
    """An example to judge.

    `prompt` is text or a list of {role, content}. `reference` (unless
    `show_reference` is false) and `principles` are shown to the judge, if its templates have a
    place for them, or principles the beginning of its answer. `adaptive` is true, or a
    probability such as 0.99: fewer samples for the same winner. With `stream` the reply is
    server-sent events: `vote` for each sample as it comes, and then `verdict`, or `error`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Any
    responses: list[str] = Field(min_length=1)
    k: int | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    principles: str | None = None
    reference: str | None = None
    show_reference: bool = True
    adaptive: bool | float | None = None
    id: str = ""
    model: str | None = None
    stream: bool = False


def routes(service: Service) -> APIRouter:
    """The route, on a service."""
    router = APIRouter()

    @router.post("/v1/judge", summary="Judge responses to a prompt")
    async def judge(body: JudgeRequest, request: Request) -> Response:
        service.check_model(body.model)
        asked = body.model_dump(exclude={"model", "stream"})
        if body.adaptive is None:
            asked["adaptive"] = service.command.adaptive
        question = service.question(**asked)
        if body.stream:
            return await _stream(service, question)
        verdict = await unless_gone(request, service.verdict(question))
        named = {"object": "verdict", "model": service.command.served_name}
        return JSONResponse(named | verdict_to_json(verdict))

    return router


async def _stream(service: Service, question: Question) -> StreamingResponse:
    """Votes as they come. What is wrong with the question is still an answer of its own status."""
    votes: asyncio.Queue[Judgment | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(vote: Judgment | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(votes.put_nowait, vote)

    job = await service.begin(question, tell)
    job.result.add_done_callback(lambda _: tell(None))
    return StreamingResponse(
        _events(service, job, question, votes),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _events(
    service: Service, job: Job, question: Question, votes: asyncio.Queue[Judgment | None]
) -> AsyncIterator[str]:
    try:
        yield _event("start", {"id": question.example.id, "k": question.k})
        while True:
            try:
                vote = await asyncio.wait_for(votes.get(), _QUIET)
            except TimeoutError:
                yield ": still judging\n\n"
                continue
            if vote is None:
                break
            yield _event("vote", judgment_to_json(vote))
        yield _event("verdict", verdict_to_json(await service.finish(job)))
    except HTTPException as error:
        said: Any = error.detail
        yield _event("error", errors.body(error.status_code, said["message"], code=said["code"]))
    except Fault as error:
        yield _event("error", errors.body(503, str(error)))
    finally:
        service.loop.cancel(job)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
