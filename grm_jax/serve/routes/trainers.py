"""Trainers' forms: OpenRLHF's /get_reward and slime's /slime."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from grm_jax.serve.errors import as_refusals, refused
from grm_jax.serve.routes.shown import Texts, of_each, references
from grm_jax.serve.service import Score, Service, unless_gone
from grm_jax.text.rendered import split_response, without_end


class GetReward(BaseModel):
    """OpenRLHF's request: `query` is the rendered prompt and what the policy wrote, `prompts` the
    rendered prompt. `principles` and `reference` are shown to the judge: one text for all samples,
    or one for each. A `reference` that is true shows labels that are text."""

    query: list[str]
    prompts: list[str]
    labels: list[Any] | None = None
    reference: bool | Texts = None
    principles: Texts = None


class Slime(BaseModel):
    """slime's request: one response. `principles` and `reference` are shown to the judge; a
    `reference` that is true shows a label that is text."""

    prompt: Any
    response: str
    label: Any = None
    reference: bool | str | None = None
    principles: str | None = None


def routes(service: Service) -> APIRouter:
    """The routes, on a service."""
    router = APIRouter()

    @router.post("/get_reward", summary="OpenRLHF: --reward.remote_url")
    async def get_reward(body: GetReward, request: Request) -> JSONResponse:
        """`rewards` are mean scores, `scores` the same from 0 to 1."""
        labels = body.labels or [None] * len(body.query)
        if not len(body.query) == len(body.prompts) == len(labels):
            raise refused("query, prompts and labels must have one entry for each sample.")
        with as_refusals():
            rows = [split_response(*row) for row in zip(body.query, body.prompts, strict=True)]
            shown = references(body.reference, labels)
            principles = of_each("principles", body.principles, len(rows))
        scores = await unless_gone(request, service.scores(rows, shown, principles))
        return JSONResponse(
            {
                "rewards": [score.mean for score in scores],
                "scores": [score.normalised for score in scores],
                "extra_logs": _logs(scores),
            }
        )

    @router.post("/slime", summary="slime: --rm-type remote_rm --rm-url; the reply is the reward")
    async def slime(body: Slime, request: Request) -> JSONResponse:
        (reference,) = references(body.reference, [body.label])
        response = without_end(body.response)
        score = service.score(
            body.prompt, response, reference=reference, principles=body.principles
        )
        return JSONResponse((await unless_gone(request, score)).mean)

    return router


def _logs(scores: list[Score]) -> dict[str, list[float]]:
    verdicts = [score.verdict for score in scores]
    return {
        "invalid_share": [1 - verdict.valid / verdict.k for verdict in verdicts],
        "margin": [verdict.margin for verdict in verdicts],
        "cohort": [float(len(verdict.scores)) for verdict in verdicts],
        "tokens": [float(sum(j.tokens for j in verdict.judgments)) for verdict in verdicts],
    }
