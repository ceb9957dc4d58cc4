"""Real servers for tests: uvicorn in a thread, on a free port."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import uvicorn

from grm_jax import Judge
from grm_jax.serve.app import new_service
from grm_jax.serve.config import ServeCommand
from grm_jax.serve.loop import JudgeLoop
from grm_jax.serve.run import new_server
from grm_jax.serve.service import Service

# A machine that does much else may need minutes for what takes a moment.
PATIENCE = 600
get, post, stream = (partial(f, timeout=PATIENCE) for f in (httpx.get, httpx.post, httpx.stream))


@dataclass
class Live:
    """A server that runs, and its parts. resume: starts the loop of one that is paused."""

    url: str
    service: Service
    server: uvicorn.Server
    thread: threading.Thread
    resume: Callable[[], None]

    @property
    def loop(self) -> JudgeLoop:
        return self.service.loop


def until(true: Callable[[], object]) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)


@contextmanager
def live(
    judge: Judge, *, token: str | None = None, paused: bool = False, **options
) -> Iterator[Live]:
    """A server with k = 2 by default. paused: its loop takes jobs and does nothing until a test
    resumes it."""
    command = ServeCommand(**({"k": 2} | options))
    service = new_service(judge, command)
    resume = service.loop.start
    if paused:
        service.loop.start = service.loop.ready.set  # type: ignore[method-assign]
    server = new_server(service, token)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(service.loop.ready.is_set)
            until(lambda: server.started)
            port = listening.getsockname()[1]
            yield Live(f"http://127.0.0.1:{port}", service, server, thread, resume)
        finally:
            server.should_exit = True
            server.force_exit = paused  # nobody answers what a paused loop has
            thread.join()
