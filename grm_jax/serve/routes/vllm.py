"""vLLM's forms for reward models: /classify (which verl asks), /score and /rerank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, model_validator

from grm_jax.judging.judgment import Verdict
from grm_jax.serve.errors import as_refusals, refused
from grm_jax.serve.routes.form import head
from grm_jax.serve.routes.shown import Texts, of_each
from grm_jax.serve.service import Service, turns, unless_gone
from grm_jax.text.rendered import split_conversation


class Classify(BaseModel):
    """`input` is one rendered conversation or several, of which each ends with a response; or else
    `messages`, of which the last is the assistant's. Ours are `principles` and `reference`: one
    text for all inputs, or one for each."""

    model: str | None = None
    input: str | list[str] | None = None
    messages: Any = None
    principles: Texts = None
    reference: Texts = None


class ScorePairs(BaseModel):
    """Queries and documents under any of vLLM's names: 1 and 1, 1 and N, or N and N. Ours are
    `principles` and `reference`: one text for all queries, or one for each."""

    model: str | None = None
    queries: str | list[str]
    documents: str | list[str]
    principles: Texts = None
    reference: Texts = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for first, second in (("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")):
                if second in data and "documents" not in data:
                    return data | {"queries": data.get(first), "documents": data[second]}
        return data


class Rerank(BaseModel):
    """A query, and documents to put in order; `top_n` 0 or absent: all. Ours are `principles` and
    `reference`."""

    model: str | None = None
    query: str
    documents: list[str]
    top_n: int = 0
    principles: str | None = None
    reference: str | None = None


def routes(service: Service) -> APIRouter:
    """The routes, on a service."""
    router = APIRouter()

    @router.post("/classify", summary="vLLM: probs[0] is the mean score")
    async def classify(body: Classify, request: Request) -> JSONResponse:
        """As a regression: one class, whose `probs` is the mean score itself."""
        service.check_model(body.model)
        with as_refusals():
            rows = _conversations(body)
            references = of_each("reference", body.reference, len(rows))
            principles = of_each("principles", body.principles, len(rows))
        scores = await unless_gone(request, service.scores(rows, references, principles))
        data = [
            {"index": index, "label": None, "probs": [score.mean], "num_classes": 1}
            for index, score in enumerate(scores)
        ]
        verdicts = [score.verdict for score in scores]
        return JSONResponse(head(service, "classify", "list", _tokens(verdicts)) | {"data": data})

    async def score(body: ScorePairs, request: Request) -> JSONResponse:
        """The documents of one query are judged together."""
        service.check_model(body.model)
        values, verdicts = await unless_gone(request, _scored(service, body))
        data = [
            {"index": index, "object": "score", "score": value}
            for index, value in enumerate(values)
        ]
        return JSONResponse(head(service, "score", "list", _tokens(verdicts)) | {"data": data})

    async def rerank(body: Rerank, request: Request) -> JSONResponse:
        """Best first, by the verdict's ranking; relevance_score is the mean score."""
        service.check_model(body.model)
        question = service.question(
            body.query, body.documents, reference=body.reference, principles=body.principles
        )
        verdict = await unless_gone(request, service.verdict(question))
        best = verdict.ranking[: body.top_n] if body.top_n > 0 else verdict.ranking
        results = [
            {
                "index": index,
                "document": {"text": question.example.responses[index]},
                "relevance_score": verdict.mean_scores[index],
            }
            for index in best
        ]
        begun = head(service, "rerank", "list", _tokens([verdict]))
        return JSONResponse(begun | {"results": results})

    for path in ("/score", "/v1/score"):
        router.post(path, summary="vLLM: scores of documents")(score)
    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        router.post(path, summary="vLLM, Jina, Cohere: documents in order")(rerank)
    return router


def _tokens(verdicts: Sequence[Verdict]) -> int:
    """How many were written."""
    return sum(j.tokens for verdict in verdicts for j in verdict.judgments)


def _conversations(body: Classify) -> list[tuple[Any, str]]:
    if (body.input is None) == (body.messages is None):
        raise ValueError("give either input or messages.")
    if body.messages is not None:
        said = turns(body.messages)
        if not said or said[-1].role != "assistant":
            raise ValueError("the last message must be the assistant's: it is what is judged.")
        return [(said[:-1], said[-1].content)]
    inputs = [body.input] if isinstance(body.input, str) else body.input or []
    return [split_conversation(text) for text in inputs]


async def _scored(service: Service, body: ScorePairs) -> tuple[list[float], list[Verdict]]:
    queries = [body.queries] if isinstance(body.queries, str) else body.queries
    documents = [body.documents] if isinstance(body.documents, str) else body.documents
    with as_refusals():
        references = of_each("reference", body.reference, len(queries))
        principles = of_each("principles", body.principles, len(queries))
    if len(queries) == 1 and len(documents) != 1:
        question = service.question(
            queries[0], documents, reference=references[0], principles=principles[0]
        )
        verdict = await service.verdict(question)
        return list(verdict.mean_scores), [verdict]
    if len(queries) != len(documents):
        raise refused(
            f"there are {len(queries)} queries and {len(documents)} documents: give one query, or "
            "as many as there are documents."
        )
    rows = list(zip(queries, documents, strict=True))
    scores = await service.scores(rows, references, principles)
    return [score.mean for score in scores], [score.verdict for score in scores]
