"""What OpenAI's and vLLM's forms have in common: what is not here, and how replies begin."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from pydantic import BaseModel, Field

from grm_jax.serve.errors import refused
from grm_jax.serve.service import Service

TopP = Annotated[float, Field(gt=0, le=1)]
# What would change the text and is not there: leaving it out unsaid would be a wrong answer.
_NOT_HERE = (
    "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "presence_penalty", "stop",
    "stream", "suffix", "tools",
)  # fmt: skip


def check_supported(body: BaseModel) -> None:
    """Refuses what a request asks for and is not here. `body` allows fields that it does not name;
    others, such as `user`, are passed over."""
    for name in _NOT_HERE:
        if (body.model_extra or {}).get(name):
            raise refused(f"{name} is not supported here: leave it out.")


def head(service: Service, kind: str, object: str, written: int, read: int = 0) -> dict[str, Any]:
    """How a reply begins.

    written, read: tokens; a judge's prompt is read once for several samples, and not counted.
    """
    return {
        "id": f"{kind}-{uuid.uuid4().hex}",
        "object": object,
        "created": int(time.time()),
        "model": service.command.served_name,
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        },
    }
