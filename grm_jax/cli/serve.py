"""`grm serve`: the judge over HTTP."""

from __future__ import annotations

from grm_jax.devices import say_devices
from grm_jax.serve.config import ServeCommand

_EXTRA = ("fastapi", "prometheus_client", "uvicorn")


def run(command: ServeCommand) -> int:
    """Serves until it is told to end.

    Raises:
        ValueError: a library is missing, or something cannot be served, and why.
    """
    try:
        from grm_jax.serve.run import serve
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        message = f"serving needs {error.name}: pip install 'grm-jax[serve]'."
        raise ValueError(message) from None
    say_devices(command.mesh)
    return serve(command)
