"""/compare, as NeMo Gym's genrm_compare: a group of responses in, rewards and comparisons out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from grm_jax.judging.judgment import Verdict
from grm_jax.serve.errors import as_refusals
from grm_jax.serve.routes.shown import either
from grm_jax.serve.service import Service, unless_gone

# NeMo's scale goes from 1, the first is much better, to 6, the second is.
_FIRST, _NEITHER, _SECOND = 3.0, 3.5, 4.0


class Compare(BaseModel):
    """A conversation, and what answered it as OpenAI Responses objects.

    `principle` is NeMo Gym's, and the same as `principles`; `reference` is ours.
    """

    conversation_history: list[Any]
    response_objs: list[dict[str, Any]] = Field(min_length=1)
    principle: str | None = None
    principles: str | None = None
    reference: str | None = None


def routes(service: Service) -> APIRouter:
    """The route, on a service."""
    router = APIRouter()

    @router.post("/compare", summary="NeMo Gym: rewards of a group")
    async def compare(body: Compare, request: Request) -> JSONResponse:
        """All responses are judged together; each sample compares every two of them."""
        with as_refusals():
            texts = [_said(response) for response in body.response_objs]
            principles = either(principle=body.principle, principles=body.principles)
        question = service.question(
            body.conversation_history, texts, principles=principles, reference=body.reference
        )
        verdict = await unless_gone(request, service.verdict(question))
        return JSONResponse(
            {
                "rewards": verdict.mean_scores,
                "comparison_results": _comparisons(verdict),
                "metrics": {
                    "margin": verdict.margin,
                    "invalid_share": 1 - verdict.valid / verdict.k,
                },
            }
        )

    return router


def _said(response: Mapping[str, Any]) -> str:
    """The text of a Responses object, without what was only thought.

    Raises:
        ValueError: it is none.
    """
    output = response.get("output")
    if not isinstance(output, list):
        raise ValueError("a response has no list `output`: send OpenAI Responses objects.")
    texts = []
    for item in output:
        if isinstance(item, Mapping) and item.get("type", "message") == "message":
            content = item.get("content")
            parts = [{"text": content}] if isinstance(content, str) else content
            if not isinstance(parts, list):
                raise ValueError("a message of a response has no `content`: give text, or parts.")
            texts += [part.get("text", "") for part in parts if isinstance(part, Mapping)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a response holds a part whose text is no text.")
    return "\n".join(texts)


def _comparisons(verdict: Verdict) -> list[dict[str, Any]]:
    return [
        {
            "response_i": i,
            "response_j": j,
            "judge_idx": judgment.sample,
            "score_1": judgment.scores[i],
            "score_2": judgment.scores[j],
            "ranking": _ranking(judgment.scores[i] - judgment.scores[j]),
        }
        for judgment in verdict.judgments
        if judgment.counted and judgment.scores is not None
        for i, j in combinations(range(len(judgment.scores)), 2)
    ]


def _ranking(ahead: float) -> float:
    return _FIRST if ahead > 0 else _SECOND if ahead < 0 else _NEITHER
