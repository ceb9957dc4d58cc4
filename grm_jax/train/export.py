"""The model folder that a run writes at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from grm_jax.judging.folder import model_path
from grm_jax.models import hf
from grm_jax.models.adapter_files import write_adapter
from grm_jax.models.hf_folder import base_folder, base_source, is_adapter
from grm_jax.models.hf_words import new_folder, write_words
from grm_jax.models.model import Model
from grm_jax.models.packaged import PACKAGED
from grm_jax.places import is_address
from grm_jax.text.files import is_hub_id
from grm_jax.train.adapter import adapter_of
from grm_jax.train.finite import check_finite
from grm_jax.train.run import Run
from grm_jax.train.start import start_settings


def export(run: Run, model: Model, params: Any, *, kind: str = "grm", **settings: Any) -> Path:
    """Writes the trained model to the folder `model` of the run; or the adapter, if it is one.

    Args:
        params: its weights, or an adapter's.
        kind: of judge.
        settings: for grm.json, besides the kind and how long judges write.

    Raises:
        ValueError: weights are not finite; nothing is written.
    """
    config, folder = run.training.export, run.output / "model"
    params = jax.tree.map(lambda p: p.astype(config.dtype), params)
    check_finite(params, f"{folder} is not written: what was trained")
    limit = config.max_new_tokens or start_settings(run.config.start).get("max_new_tokens")
    if kind != "grm":
        settings = {"kind": kind, **settings}
    extra = {**settings, **({} if limit is None else {"max_new_tokens": limit})}
    if adapter := adapter_of(run.config.adapter, model):
        with new_folder(folder) as part:
            if part is not None:
                write_words(part, run.tokenizer, extra, run.templates)
            write_adapter(part, adapter, params, _base(run.config.start))
        return folder
    model = replace(model, param_dtype=config.dtype)
    hf.save_folder(
        model, params, folder, tokenizer=run.tokenizer, extra=extra, templates=run.templates
    )
    return folder


def _base(start: str) -> str:
    """How an adapter is to name its model: as the run did, but for a folder here its whole path."""
    if is_address(start):
        return start
    folder = model_path(start)
    if is_adapter(folder):
        start = base_source(folder)
        folder = base_folder(folder)
    named = start in PACKAGED or is_hub_id(start)
    return start if named and not Path(start).is_dir() else str(folder.absolute())
