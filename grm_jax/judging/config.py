"""Which judge is asked, in settings; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from grm_jax.judging.kinds import Kind
from grm_jax.judging.server import EndpointConfig
from grm_jax.sampling.strategy import Strategy

# What the matrices of a model's layers are kept in, where it is not the type of their files.
Weights = Literal["int8"]


@dataclass(frozen=True)
class JudgeConfig:
    """A judge to sample from: at most one of `model`, `samples` and `endpoint`.

    Args:
        model: a model folder, a hub id, or a bundled model; by default the one that the stage
            starts from.
        samples: a file of judgments that are there already.
        endpoint: an OpenAI-compatible server.
        kind: what judges; by default what grm.json in the model folder says, else "grm".
        reference: show the reference answer of an item that has one (the paper's Table 12).
        templates: prompt templates for `model`; by default its own.
        strategy: how tokens are drawn (for an endpoint its own settings count).
        max_new_tokens: room for one judgment; by default what the model folder says.
        slots: samples decoded at once.

    Raises:
        ValueError: more than one source.
    """

    model: str | None = None
    samples: str | None = None
    endpoint: EndpointConfig | None = None
    kind: Kind | None = None
    reference: bool = False
    templates: str | None = None
    strategy: Strategy = field(default_factory=Strategy)
    max_new_tokens: int | None = None
    slots: int = 64

    def __post_init__(self) -> None:
        named = [n for n in ("model", "samples", "endpoint") if getattr(self, n) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are both given: judgments have one source.")
