"""Where training starts: random weights of a size, a model folder, or a run's checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jax
from jax.sharding import Mesh

from grm_jax import presets
from grm_jax.judging.folder import Learns, model_path, read_settings
from grm_jax.models import hf
from grm_jax.models.config import PRESETS
from grm_jax.models.hf_config import config_from_hf
from grm_jax.models.hf_folder import base_folder, tokenizer_folder
from grm_jax.models.model import Model
from grm_jax.places import path_of
from grm_jax.sharding import TRAIN_RULES, check_divisible, shardings_of
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.checkpoint import is_checkpoints, load_params, saved_model
from grm_jax.train.finite import check_finite

NEW = "new:"


def start_tokenizer(
    start: str, tokenizer: str | None, chat: Mapping[str, Any] | None = None
) -> Tokenizer:
    """The tokenizer given, or that of the model folder in `start`, checked against its weights.

    chat: arguments of its chat template, besides those in grm.json.

    Raises:
        ValueError: there is none, or it is not the one that the weights were trained with.
    """
    if start.startswith(NEW) or is_checkpoints(path_of(start)):
        if tokenizer is None:
            raise ValueError(f"start is {start}, which has no tokenizer: give tokenizer, a folder.")
        return Tokenizer.load(tokenizer, chat)
    folder, settings = model_path(start), start_settings(start)
    loaded = Tokenizer.load(
        tokenizer or tokenizer_folder(folder), {**settings.get("chat", {}), **(chat or {})}
    )
    expected = settings.get("tokenizer_sha256", loaded.sha256)
    if expected != loaded.sha256:
        raise ValueError(
            f"{start} was trained with tokenizer {expected[:12]}.., but {tokenizer or folder} "
            f"holds {loaded.sha256[:12]}..: give the one that came with the weights."
        )
    return loaded


def start_templates(start: str, templates: str | None) -> Path | None:
    """The folder of templates given, by path or by name, or the one in the model folder `start`, if
    it has one."""
    if templates is not None:
        return presets.templates(templates)
    if start.startswith(NEW) or is_checkpoints(path_of(start)):
        return None
    own = model_path(start) / "templates"
    return own if own.is_dir() else None


def start_settings(start: str) -> dict[str, Any]:
    """What grm.json says in the model folder `start`; nothing where there is none."""
    if start.startswith(NEW) or is_checkpoints(path_of(start)):
        return {}
    return read_settings(model_path(start))


def learned_kind(start: str, kind: Learns | None) -> Learns:
    """The kind of judge to train: the one given, or that of the model in `start`, else "grm".

    Raises:
        ValueError: the start is a judge with a scalar head.
    """
    learned = kind or start_settings(start).get("kind", "grm")
    if learned not in get_args(Learns):
        raise ValueError(f"{start} is a judge of the kind {learned!r}: give kind, grm or judge.")
    return learned


def load_start(
    start: str, tokenizer: Tokenizer, mesh: Mesh, *, dtype: str, seed: int, adapter: bool = False
) -> tuple[Model, Callable[[], Any]]:
    """The model to train, and a function that makes its float32 weights, laid out on the mesh.

    The weights come from a function because a run that is resumed does not need them.

    Args:
        adapter: the model is one to train an adapter for: its weights stay in the type of their
            files, and without the adapter that `start` may be.

    Raises:
        ValueError, FileNotFoundError: no such size or folder; tokenizer or mesh does not fit it.
    """
    if start.startswith(NEW):
        size = start.removeprefix(NEW)
        if size not in PRESETS:
            raise ValueError(f"start is {start}, but the sizes are {', '.join(PRESETS)}.")
        model = Model(replace(PRESETS[size], vocab_size=tokenizer.vocab_size), dtype=dtype)
        return model, lambda: _init(model, mesh, seed)
    path, param_dtype = path_of(start), "float32"
    if is_checkpoints(path):
        if adapter:
            raise ValueError(
                f"start is {start}, the checkpoints of a run, and adapter.rank is not 0: an "
                "adapter is for a model folder: give the folder `model` that the run has written."
            )
        model = replace(saved_model(path), dtype=dtype)
    else:
        config, head = config_from_hf(model_path(start))
        if head != "lm":
            raise ValueError(f"{start} holds a scalar reward model: give one that writes.")
        if adapter:
            param_dtype = hf.stored_dtype(base_folder(model_path(start)))
        model = Model(config, dtype=dtype, param_dtype=param_dtype)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} entries, but {start} embeds only "
            f"{model.config.vocab_size}: give the tokenizer that belongs to it."
        )
    return model, lambda: _load(start, model, mesh, alone=adapter)


def _init(model: Model, mesh: Mesh, seed: int) -> Any:
    check_divisible(model.abstract(), model.axes(), mesh, TRAIN_RULES)
    shardings = shardings_of(model.axes(), mesh, TRAIN_RULES)
    return jax.jit(model.init, out_shardings=shardings)(jax.random.key(seed))


def _load(start: str, model: Model, mesh: Mesh, *, alone: bool) -> Any:
    if is_checkpoints(path_of(start)):
        check_divisible(model.abstract(), model.axes(), mesh, TRAIN_RULES)
        abstract = jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            model.abstract(),
            shardings_of(model.axes(), mesh, TRAIN_RULES),
        )
        params = load_params(path_of(start), abstract)
        check_finite(params, f"start is {start}, but its newest checkpoint")
        return params
    folder = base_folder(model_path(start)) if alone else model_path(start)
    return hf.load_folder(folder, mesh, TRAIN_RULES, param_dtype=model.param_dtype)[1]
