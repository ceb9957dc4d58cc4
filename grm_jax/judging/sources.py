"""Where judgments come from: a model folder, a saved file, or an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from grm_jax.judging.cloud import CLoud
from grm_jax.judging.config import JudgeConfig, Weights
from grm_jax.judging.endpoint import EndpointJudge
from grm_jax.judging.folder import folder_kind, load_model_folder
from grm_jax.judging.judge import Judge
from grm_jax.judging.kinds import KINDS, Kind
from grm_jax.judging.rater import Rater
from grm_jax.judging.samples import SampleSource, SavedSamples
from grm_jax.judging.scalar import BTRM, PairRM
from grm_jax.mesh import MeshConfig
from grm_jax.places import at_hand


def judge_kind(config: JudgeConfig, start: str = "tiny") -> Kind:
    """What kind of judge a config names; `start` is the model where it names no source.

    Raises:
        FileNotFoundError, ValueError: no such model folder, or no such kind.
    """
    if config.kind is not None:
        return config.kind
    written = config.samples is not None or config.endpoint is not None
    return "grm" if written else folder_kind(config.model or start)


def open_judge(
    config: JudgeConfig,
    start: str,
    *,
    seed: int,
    training: bool = True,
    hinted: bool = False,
    tokenizer: str | None = None,
    templates: str | None = None,
    dtype: str | None = None,
    weights: Weights | None = None,
    mesh: MeshConfig | None = None,
    chat: Mapping[str, Any] | None = None,
) -> SampleSource:
    """The judge of a config.

    Args:
        start: the model where the config names none.
        templates: prompt templates where the config names none.
        training, hinted: as for `Judge`, of a judge that writes; another is asked in one way.
        tokenizer, dtype, weights, chat: as for `load_model_folder`.
        mesh: the stage's, which is used where there are several devices.

    Raises:
        ValueError, FileNotFoundError: what is missing or does not fit.
    """
    if config.samples is not None:
        return SavedSamples(at_hand(config.samples))
    model, name = config.model or start, judge_kind(config, start)
    kind = KINDS[name]
    if config.endpoint is not None and not kind.endpoint:
        raise ValueError(
            f"kind is {name!r}, but the endpoint {config.endpoint.url} can only judge by "
            "writing: give a model folder."
        )
    if config.reference and not kind.reference:
        raise ValueError(f"reference is set, but a judge of the kind {name!r} is shown none.")
    shown: dict[str, Any] = {
        "kind": name,
        "training": training,
        "hinted": hinted,
        "reference": config.reference,
    }
    if config.endpoint is not None:
        return EndpointJudge(config.endpoint, seed=seed, **shown)
    loading: dict[str, Any] = {
        "tokenizer": tokenizer,
        "templates": config.templates or templates,
        "dtype": dtype,
        "weights": weights,
        "mesh": mesh if jax.device_count() > 1 else None,
        "chat": chat,
    }
    drawing: dict[str, Any] = {
        "strategy": config.strategy,
        "seed": seed,
        "max_new_tokens": config.max_new_tokens,
        "slots": config.slots,
    }
    if kind.head == "lm":
        return Judge.load(model, **loading, **drawing, **shown)
    if name == "cloud":
        return CLoud.load(model, **loading, **drawing)
    rater = Rater(load_model_folder(model, **loading), config.slots)
    return BTRM(rater) if name == "bt" else PairRM(rater, seed)
