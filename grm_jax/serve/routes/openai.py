"""/v1/chat/completions: the critique as the answer.

The conversation is the prompt, and what is judged is its last turn, if that is the assistant's, or
all turns of the roles response_1, response_2, .. as NeMo Gym's judges take them, with `principle`
for what to judge by. Each of `n` choices is one sampled judgment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from grm_jax.judging.judgment import Judgment, Verdict
from grm_jax.serve.errors import UNREADABLE, as_refusals
from grm_jax.serve.job import Question
from grm_jax.serve.routes.form import TopP, check_supported, head
from grm_jax.serve.routes.judge import Seed, Temperature
from grm_jax.serve.routes.shown import either
from grm_jax.serve.service import Service, unless_gone
from grm_jax.text.messages import joined_parts

_RESPONSE = re.compile(r"response_?(\d+)")


class ChatRequest(BaseModel):
    """A chat completion's request; see the module for which turns are judged.

    Ours are `principles`, in place of a turn `principle`, and `reference`.
    """

    model_config = ConfigDict(extra="allow")

    messages: list[dict[str, Any]]
    model: str | None = None
    n: int = 1
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    principles: str | None = None
    reference: str | None = None


def routes(service: Service) -> APIRouter:
    """The route, on a service."""
    router = APIRouter()

    @router.post("/v1/chat/completions", summary="OpenAI: the critique as the answer")
    async def chat(body: ChatRequest, request: Request) -> JSONResponse:
        service.check_model(body.model)
        check_supported(body)
        with as_refusals():
            prompt, responses, principle = _read(body.messages)
            principles = either(principle=principle, principles=body.principles)
        question = service.question(
            prompt,
            responses,
            principles=principles,
            reference=body.reference,
            k=body.n,
            seed=body.seed,
            temperature=body.temperature,
            top_p=body.top_p,
        )
        judgments, verdict = await unless_gone(request, _judgments(service, question))
        written = sum(judgment.tokens for judgment in judgments)
        told = {
            "choices": [_choice(judgment) for judgment in judgments],
            "mean_scores": verdict and verdict.mean_scores,
        }
        return JSONResponse(head(service, "chatcmpl", "chat.completion", written) | told)

    return router


async def _judgments(service: Service, question: Question) -> tuple[list[Judgment], Verdict | None]:
    """The judgments in the order of their numbers, readable or not, and the verdict if any is."""
    votes: list[Judgment] = []
    job = await service.begin(question, votes.append)
    verdict = None
    try:
        verdict = await service.finish(job)
    except HTTPException as error:
        detail: Any = error.detail
        if detail["code"] != UNREADABLE:
            raise
    return sorted(votes, key=lambda judgment: judgment.sample), verdict


def _choice(judgment: Judgment) -> dict[str, Any]:
    return {
        "index": judgment.sample,
        "message": {"role": "assistant", "content": judgment.text},
        "logprobs": None,
        "finish_reason": "length" if judgment.reason == "truncated" else "stop",
    }


def _read(
    messages: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[str], str | None]:
    """The prompt, the responses and the principle in a conversation.

    Raises:
        ValueError: there is nothing to judge in it.
    """
    prompt, responses, principle = [], [], None
    for number, turn in enumerate(messages, 1):
        role = str(turn.get("role"))
        if _RESPONSE.fullmatch(role):
            responses.append(joined_parts(turn.get("content"), f"turn {number}"))
        elif role == "principle":
            principle = joined_parts(turn.get("content"), f"turn {number}")
        else:
            prompt.append(turn)
    if not responses and prompt and prompt[-1].get("role") == "assistant":
        responses = [joined_parts(prompt.pop().get("content"), f"turn {len(messages)}")]
    if not responses:
        raise ValueError(
            "there is nothing to judge: end with the assistant's turn, or give responses the roles "
            "response_1, response_2 and so on."
        )
    return prompt, responses, principle
