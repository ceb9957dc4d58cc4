"""Runs the server until it is told to end, and then answers what it has accepted."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import Any

import uvicorn

from grm_jax.judging.asking import Asking
from grm_jax.judging.judge import Judge
from grm_jax.judging.kinds import KINDS
from grm_jax.serve.app import check_templates, new_app, new_service
from grm_jax.serve.config import ServeCommand, seconds
from grm_jax.serve.service import Service
from grm_jax.text.prompts import load_templates


def serve(command: ServeCommand) -> int:
    """Serves; 0 once it was told to end and all is answered.

    Raises:
        ValueError: an address without a token, a port that is taken, a judge or templates that
            cannot be served.
        Exception: whatever the warm-up ended with.
    """
    token = _token(command)
    if command.templates is not None:  # which need not wait for a model
        kind = KINDS[command.judge_kind or "grm"]
        check_templates(Asking(load_templates(command.templates), kind.task), command)
    with _listening(command) as listening:
        service = new_service(_judge(command), command)
        host, port = listening.getsockname()[:2]
        server = new_server(service, token)
        told = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"Serving {command.served_name} at {told}; /ready says when.", flush=True)
        # uvicorn raises the signal again once it has ended, which is then no reason to die.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listening])
    if service.loop.failure is not None:
        raise service.loop.failure
    return 0


def new_server(service: Service, token: str | None) -> uvicorn.Server:
    """A server that ends in order: it accepts nothing new, judges what is there, and waits."""
    config = uvicorn.Config(
        new_app(service, token),
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(seconds("drain", service.command.drain)),
    )
    server = uvicorn.Server(config)
    service.loop.on_failure = lambda: setattr(server, "should_exit", True)
    stop = server.handle_exit

    def end(number: int, frame: Any) -> None:
        service.drain()
        stop(number, frame)

    server.handle_exit = end  # type: ignore[method-assign]
    return server


def _judge(command: ServeCommand) -> Judge:
    return Judge.load(
        command.model,
        tokenizer=command.tokenizer,
        chat=command.chat,
        templates=command.templates,
        dtype=command.dtype,
        mesh=command.mesh,
        meta_rm=command.meta_rm,
        strategy=command.strategy,
        seed=command.seed,
        max_new_tokens=command.max_new_tokens,
        slots=command.slots,
        k_meta=command.k_meta,
        kind=command.judge_kind,
    )


def _token(command: ServeCommand) -> str | None:
    """The token in the environment; None where there is none and none is needed."""
    token = os.environ.get(command.token_env, "").strip()
    if not token and command.exposed:
        raise ValueError(
            f"host is {command.host!r}, where other machines can connect: put a token into the "
            f"environment variable {command.token_env}, or listen on 127.0.0.1."
        )
    if not token.isascii() or not token.isprintable():
        raise ValueError(f"{command.token_env} holds more than a token: letters and digits.")
    return token or None


def _listening(command: ServeCommand) -> socket.socket:
    family = socket.AF_INET6 if ":" in command.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((command.host, command.port))
        listening.listen(2048)
    except OSError as error:
        with suppress(OSError):
            listening.close()
        raise ValueError(
            f"cannot listen on {command.host} port {command.port} ({error.strerror or error}): "
            "choose another --port or --host."
        ) from None
    return listening
