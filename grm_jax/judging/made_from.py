"""Which files the settings of a run name, by what is in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from grm_jax.fingerprint import fingerprint, fingerprint_at
from grm_jax.judging.folder import BUNDLED, bundled, model_path
from grm_jax.models.hf_folder import ADAPTER, base_source, is_adapter
from grm_jax.models.packaged import PACKAGED
from grm_jax.paths import expanded
from grm_jax.places import Place, at_hand, is_address

MODELS = ("model", "models", "start", "critic", "meta_rm")
# The settings that name what judges; and those that name the data of a training run besides.
JUDGES = (*MODELS, "tokenizer", "templates", "samples", "principles")
TRAINING = (*JUDGES, "source")


def made_from(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """Fingerprints of the files and folders that these settings name, by their dotted names.

    Of a model on the hub it is the revision. What else is not on this machine has none.

    Raises:
        FileNotFoundError, ValueError: the hub does not give a model.
    """
    hashes: dict[str, str] = {}
    for dotted, name, value in _texts(settings):
        if name not in names:
            continue
        if is_address(value):
            hashes |= _at(value, dotted, name, names)
            continue
        path = expanded(value)
        if name in MODELS and value in BUNDLED:
            path = bundled(value)
        elif name in MODELS and value in PACKAGED:
            path = model_path(value)
        if name == "principles" and path.is_dir():  # it grows while it is used
            continue
        if path.exists():
            hashes[dotted] = fingerprint(path)
            if name in MODELS and is_adapter(path):
                base = made_from({name: base_source(path)}, names)
                hashes |= {f"{dotted}.base": mark for mark in base.values()}
        elif name in MODELS and re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            hashes[dotted] = model_path(value).name
    return hashes


def _at(address: str, dotted: str, name: str, names: Collection[str]) -> dict[str, str]:
    """The fingerprints of what is at an address; of an adapter also that of its model."""
    place = Place(address)
    hashes = {dotted: mark} if (mark := fingerprint_at(place)) else {}
    if name in MODELS and (place / ADAPTER).stored() and is_adapter(path := at_hand(address)):
        base = made_from({name: base_source(path)}, names)
        hashes |= {f"{dotted}.base": mark for mark in base.values()}
    return hashes


def _texts(value: Any, dotted: str = "", name: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted name, name of the setting, text) of every text in the settings."""
    if isinstance(value, str):
        yield dotted, name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{dotted}.{key}" if dotted else str(key), str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{dotted}[{index}]", name)
