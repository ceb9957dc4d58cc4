"""/v1/completions: text in, text out, from the model of the judge. Nothing is judged.

The prompt is plain text: the names of control tokens in it are no control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from grm_jax.sampling.request import Completion
from grm_jax.serve.errors import as_refusals, refused
from grm_jax.serve.job import Prompt
from grm_jax.serve.routes.form import TopP, check_supported, head
from grm_jax.serve.routes.judge import Seed, Temperature
from grm_jax.serve.service import Service, unless_gone


class CompletionRequest(BaseModel):
    """A completion's request. `max_tokens` is OpenAI's 16 where it is not given."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int = Field(1, ge=1)
    max_tokens: int = Field(16, ge=1)
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None


def routes(service: Service) -> APIRouter:
    """The route, on a service."""
    router = APIRouter()

    @router.post("/v1/completions", summary="OpenAI: text in, text out; nothing is judged")
    async def completions(body: CompletionRequest, request: Request) -> JSONResponse:
        service.check_model(body.model)
        check_supported(body)
        judge, limits = service.loop.judge, service.command.limits
        most = judge.sampler.max_new_tokens
        if body.max_tokens > most:
            raise refused(f"max_tokens is {body.max_tokens}, and this server draws up to {most}.")
        if body.n > limits.k:
            raise refused(f"n is {body.n}; give 1 to {limits.k}.")
        with as_refusals():
            strategy = service.strategy(body.temperature, body.top_p)
        tokenizer = judge.folder.tokenizer
        tokens = [tokenizer.bos_id, *tokenizer.encode(body.prompt)]
        prompt = Prompt(tokens, f"completion {body.prompt}", body.n, body.seed, strategy)
        drawn = await unless_gone(request, service.complete(prompt))
        cut = [_cut(completion, body.max_tokens) for completion in drawn]
        written = sum(len(ids) for ids, _ in cut)
        choices = [
            {
                "index": index,
                "text": tokenizer.decode_completion(ids),
                "logprobs": None,
                "finish_reason": "stop" if finished else "length",
            }
            for index, (ids, finished) in enumerate(cut)
        ]
        begun = head(service, "cmpl", "text_completion", written, len(tokens))
        return JSONResponse(begun | {"choices": choices})

    return router


def _cut(completion: Completion[Any], most: int) -> tuple[Sequence[int], bool]:
    """The first tokens of a completion, and whether it ended by itself within them."""
    ids = completion.tokens.tolist()
    return ids[:most], completion.finished and len(ids) <= most
