"""`grm serve`: the judge over HTTP."""

from __future__ import annotations

from grm_jax.serve.config import ServeCommand


def run(command: ServeCommand) -> int:
    """Serves until it is told to end."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        message = f"serving needs {error.name}: pip install 'grm-jax[serve]'."
        raise ValueError(message) from None
    from grm_jax.serve.run import serve

    return serve(command)
