"""Trainers' forms: OpenRLHF's /get_reward and slime's /slime."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from grm_jax.serve.errors import as_refusals, refused
from grm_jax.serve.service import Score, Service, unless_gone
from grm_jax.text.rendered import split_response, without_end


class GetReward(BaseModel):
    """OpenRLHF's request: `query` is the rendered prompt and what the policy wrote, `prompts` the
    rendered prompt. A label that is text is shown as the reference answer with `reference`."""

    query: list[str]
    prompts: list[str]
    labels: list[Any] | None = None
    reference: bool = False


class Slime(BaseModel):
    """slime's request: one response."""

    prompt: Any
    response: str
    label: Any = None


def routes(service: Service) -> APIRouter:
    """The routes, on a service."""
    router = APIRouter()

    @router.post("/get_reward", summary="OpenRLHF: --reward.remote_url")
    async def get_reward(body: GetReward, request: Request) -> JSONResponse:
        """`rewards` are mean scores, `scores` the same from 0 to 1."""
        labels = body.labels or [None] * len(body.query)
        if not len(body.query) == len(body.prompts) == len(labels):
            raise refused("query, prompts and labels must have one entry for each sample.")
        check_rows(service, len(body.query))
        with as_refusals():
            rows = [split_response(*row) for row in zip(body.query, body.prompts, strict=True)]
        shown = [label if body.reference and isinstance(label, str) else None for label in labels]
        scores = await unless_gone(
            request,
            together(
                service.score(turns, response, reference=reference)
                for (turns, response), reference in zip(rows, shown, strict=True)
            ),
        )
        return JSONResponse(
            {
                "rewards": [score.mean for score in scores],
                "scores": [score.normalised for score in scores],
                "extra_logs": _logs(scores),
            }
        )

    @router.post("/slime", summary="slime: --rm-type remote_rm --rm-url; the reply is the reward")
    async def slime(body: Slime, request: Request) -> JSONResponse:
        score = service.score(body.prompt, without_end(body.response))
        return JSONResponse((await unless_gone(request, score)).mean)

    return router


async def together(scores: Iterable[Coroutine[Any, Any, Score]]) -> list[Score]:
    """Scores that are asked for at the same time; the first that fails ends all."""
    tasks = [asyncio.ensure_future(score) for score in scores]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def check_rows(service: Service, rows: int) -> None:
    """Refuses a request with more rows than the queue could ever hold, or none."""
    most = service.command.limits.queue
    if not 1 <= rows <= most:
        raise refused(f"there are {rows} rows in the request; send 1 to {most}.")


def _logs(scores: list[Score]) -> dict[str, list[float]]:
    verdicts = [score.verdict for score in scores]
    return {
        "invalid_share": [1 - verdict.valid / verdict.k for verdict in verdicts],
        "margin": [verdict.margin for verdict in verdicts],
        "cohort": [float(len(verdict.scores)) for verdict in verdicts],
        "tokens": [float(sum(j.tokens for j in verdict.judgments)) for verdict in verdicts],
    }
