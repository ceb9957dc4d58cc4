"""/health, /ready, /v1/models, /metrics: whether the server lives, and what it does."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from grm_jax.serve.metrics import CONTENT_TYPE
from grm_jax.serve.service import Service


def routes(service: Service) -> APIRouter:
    """The routes, on a service."""
    router = APIRouter()

    @router.get("/health", summary="200 as long as the server lives")
    async def health() -> JSONResponse:
        if service.loop.failure is not None:
            return JSONResponse({"status": "the model could not be warmed up"}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/ready", summary="200 once every program is compiled, until the server ends")
    async def ready() -> JSONResponse:
        if service.draining:
            return JSONResponse({"status": "draining"}, 503)
        if not service.loop.ready.is_set():
            return JSONResponse({"status": "warming up"}, 503)
        return JSONResponse({"status": "ready"})

    @router.get("/v1/models", summary="The one model that is served")
    async def models() -> JSONResponse:
        one = {"id": service.command.served_name, "object": "model", "owned_by": "grm_jax"}
        longest = service.loop.longest_prompt
        return JSONResponse({"object": "list", "data": [one | {"max_model_len": longest}]})

    @router.get("/metrics", summary="Counters for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return router
