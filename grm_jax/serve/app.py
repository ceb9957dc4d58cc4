"""The application: a service, its routes, and the guard before them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp

import grm_jax
from grm_jax.judging.asking import Asking
from grm_jax.judging.judge import Judge
from grm_jax.serve import errors
from grm_jax.serve.config import ServeCommand
from grm_jax.serve.guard import Guard, local_names
from grm_jax.serve.loop import JudgeLoop
from grm_jax.serve.metrics import Metrics
from grm_jax.serve.routes import completions, nemo_gym, openai, page, status, trainers, vllm
from grm_jax.serve.routes import judge as judging
from grm_jax.serve.service import Service

_TELEMETRY: TelemetryConfig = {
    "auto_configure": False,
    "logs": False,
    "metrics": False,
    "operation_spans": False,
    "tracing": False,
}


def new_service(judge: Judge, command: ServeCommand) -> Service:
    """A service of a judge, whose loop is not started yet.

    Raises:
        ValueError: the judge is of a kind that cannot be served, or not in cohorts.
    """
    check_templates(judge.asking, command)
    metrics = Metrics()
    limits = command.limits
    loop = JudgeLoop(judge, metrics, queue=limits.queue, longest_prompt=limits.prompt)
    metrics.watch(loop)
    return Service(loop, command, metrics)


def check_templates(asking: Asking, command: ServeCommand) -> None:
    """Refuses templates whose answers a server cannot read.

    Raises:
        ValueError: scores are the probability of Yes; or one response is asked about at a time, and
            there are to be cohorts.
    """
    template = asking.template(1)
    if template.answer is None:
        return
    if template.answer.words:
        raise ValueError(
            f"the scores of {template.name} are the probabilities of Yes, and `grm serve` takes "
            "scores that are written: give templates that ask for them."
        )
    if template.answer.one and command.cohort > 1:
        raise ValueError(
            f"cohort is {command.cohort}, and {template.name} asks about one response at a time: "
            "leave out --cohort."
        )


def new_app(service: Service, token: str | None) -> ASGIApp:
    """The application of a service; its loop runs from start-up to shut-down.

    token: what callers must send as a bearer's; None on a loopback address only.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.loop.start()
        yield
        service.loop.stop()

    app = FastAPI(
        title="grm serve",
        version=grm_jax.__version__,
        # Its pages load their scripts from elsewhere, and its telemetry may send errors there.
        docs_url=None,
        redoc_url=None,
        telemetry=_TELEMETRY,
        lifespan=lifespan,
    )
    errors.install(app)
    for module in (judging, trainers, vllm, openai, completions, nemo_gym, status):
        app.include_router(module.routes(service))
    app.include_router(page.routes())
    command = service.command
    return Guard(
        app,
        token=token,
        names=None if command.exposed or token is not None else local_names(command.host),
        most=command.limits.body,
        metrics=service.metrics,
    )
