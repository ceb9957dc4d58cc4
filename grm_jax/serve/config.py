"""The options of `grm serve`; nothing here needs jax or an HTTP library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from grm_jax.judging.judgment import check_adaptive
from grm_jax.judging.kinds import Kind
from grm_jax.mesh import MeshConfig
from grm_jax.sampling.strategy import Strategy

# The port after the host, and what a browser sends when it was told a name.
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


@dataclass(frozen=True)
class Limits:
    """What a request may ask for; more is refused, in a sentence.

    Args:
        queue: examples that may be waiting or under way; beyond that the answer is 429.
        body: bytes of a request.
        responses: responses of an example.
        k: samples of an example.
        prompt: tokens of a judge's prompt; by default as many as the model has room for. The
            programs for all lengths up to that are compiled before the server is ready.

    Raises:
        ValueError: a limit below 1.
    """

    queue: int = 256
    body: int = 2**20
    responses: int = 32
    k: int = 64
    prompt: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ValueError(f"limits.{name} is {value}; give 1 or more.")


@dataclass(frozen=True)
class ServeCommand:
    """Judge over HTTP: /v1/judge, and the forms of OpenRLHF, verl, vLLM, slime, NeMo Gym, OpenAI.

    Listens on this machine only, unless --host says otherwise; then a token is needed. A page to
    try it is at /. SIGTERM answers what was accepted, and ends.

    Args:
        model: "tiny" (bundled), a folder in Hugging Face's layout, or a hub id.
        meta_rm: A model that rates the samples, of which then only the better ones are summed.
        k: Samples per example where a request does not say.
        k_meta: How many samples count with a meta RM; by default half of k.
        adaptive: Of /v1/judge, where a request does not say. true: draw no more samples, once those
            left of the k cannot change the winner; a number such as 0.99: once they leave it as it
            is with this probability.
        principles: A file with a rubric, or a folder where the judge's own are kept, once per
            query; as for grm judge.
        judge_kind: What the model is; by default what its grm.json says.
        name: What the model is called in replies; by default the last part of --model.
        templates: A folder of prompt templates; by default the model's own.
        tokenizer: Take the tokenizer from this folder or hub id, not from the model's.
        chat: Arguments of the model's chat template, such as {enable_thinking: false}.
        dtype: What activations are computed in, float32 or bfloat16.
        strategy: How tokens are drawn where a request does not say.
        max_new_tokens: Room for one judgment; by default what the model folder says.
        seed: The seed where a request does not say.
        slots: Samples decoded at once: the speed and memory knob.
        mesh: Spread over several devices: how many along data, fsdp and tensor.
        host: The address to listen on; 0.0.0.0 is every one.
        port: The port; 0 takes a free one and says which.
        token_env: The environment variable that holds the bearer token. Where it is set, requests
            need it; to listen on more than this machine it must be set.
        cohort: Callers that send one response at a time are held together by prompt, so many at
            most, and judged as one example; 1 holds nobody.
        cohort_wait: How long the first of them waits for the others, such as 2s or 500ms.
        drain: How long requests may take once the server is told to end.
        limits: What a request may ask for.
    """

    model: str = "tiny"
    meta_rm: str | None = None
    k: int = 8
    k_meta: int | None = None
    adaptive: bool | float = False
    principles: str | None = None
    judge_kind: Kind | None = None
    name: str | None = None
    templates: str | None = None
    tokenizer: str | None = None
    chat: dict[str, Any] | None = None
    dtype: str | None = None
    strategy: Strategy = field(default_factory=lambda: Strategy(temperature=0.5))
    max_new_tokens: int | None = None
    seed: int = 0
    slots: int = 64
    mesh: MeshConfig | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token_env: str = "GRM_TOKEN"
    cohort: int = 1
    cohort_wait: str = "2s"
    drain: str = "60s"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.limits.k:
            raise ValueError(f"k is {self.k}; give 1 up to limits.k, which is {self.limits.k}.")
        if self.k_meta is not None and (self.meta_rm is None or self.k_meta < 1):
            raise ValueError(f"k_meta is {self.k_meta}: give 1 or more, and a --meta-rm.")
        check_adaptive(self.adaptive)
        if self.adaptive and self.meta_rm is not None:
            raise ValueError(
                "adaptive voting counts all its samples, and a meta RM chooses among them: leave "
                "out --adaptive or --meta-rm."
            )
        if not 1 <= self.cohort <= self.limits.responses:
            raise ValueError(
                f"cohort is {self.cohort}; give 1 (off) up to limits.responses, which is "
                f"{self.limits.responses}."
            )
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port is {self.port}; give 0 (any that is free) up to 65535.")
        seconds("cohort_wait", self.cohort_wait)
        seconds("drain", self.drain)

    @property
    def served_name(self) -> str:
        """What the model is called in replies."""
        return self.name or self.model.rstrip("/").rpartition("/")[2]

    @property
    def exposed(self) -> bool:
        """Whether other machines can connect."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def seconds(name: str, duration: str) -> float:
    """A duration such as 2s, 500ms or 1m in seconds; a bare number is seconds.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"{name} is {duration!r}; give a duration such as 2s, 500ms or 1m.")
    return float(match[1]) * _UNITS[match[2]]
