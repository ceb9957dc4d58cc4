"""A model folder: everything a judge needs in one place.

HF's layout (config.json, *.safetensors, tokenizer.json), and optionally ours: `grm.json` with
`kind`, `critic`, `max_new_tokens`, `chat` and `tokenizer_sha256`, and a `templates/` folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from grm_jax.judging.config import Weights
from grm_jax.judging.kinds import KINDS, Kind
from grm_jax.judging.kinds import Learns as Learns
from grm_jax.mesh import MeshConfig
from grm_jax.models import hf
from grm_jax.models.hf_folder import find_folder, tokenizer_folder
from grm_jax.models.model import Model
from grm_jax.models.quantized import quantized
from grm_jax.models.transformer import Params
from grm_jax.presets import BUNDLED, bundled
from grm_jax.processes import say, several
from grm_jax.sharding import make_mesh
from grm_jax.text.chat import TODAY
from grm_jax.text.files import read_object
from grm_jax.text.prompts import Templates, load_templates
from grm_jax.text.tokenizer import Tokenizer

DEFAULT_MAX_NEW_TOKENS = 1024
# What is read of grm.json: whether a value will do, and what it must be.
SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda kind: kind in tuple(KINDS), f"one of {', '.join(KINDS)}"),
    "critic": (lambda name: isinstance(name, str), "the name of a folder in this one"),
    "max_new_tokens": (lambda n: type(n) is int and n > 0, "a whole number, 1 or more"),
    "chat": (lambda given: isinstance(given, dict), "an object: the chat template's arguments"),
    "tokenizer_sha256": (lambda sha: isinstance(sha, str), "the hash of tokenizer.json"),
}


@dataclass(frozen=True)
class ModelFolder:
    """A loaded model folder.

    `mesh` is None on one device; `kind` is what the model was made for, and `critic` the folder of
    the model that writes for it (CLoud).
    """

    path: Path
    model: Model
    params: Params
    tokenizer: Tokenizer
    templates: Templates
    max_new_tokens: int
    mesh: Mesh | None
    kind: Kind = "grm"
    critic: Path | None = None


def load_model_folder(
    name: str | Path,
    *,
    tokenizer: str | None = None,
    templates: str | None = None,
    dtype: str | None = None,
    weights: Weights | None = None,
    mesh: MeshConfig | None = None,
    chat: Mapping[str, Any] | None = None,
) -> ModelFolder:
    """Loads a bundled model, a local folder, a GGUF file, "smollm2" or a hub id.

    Args:
        tokenizer: a folder or hub id to take the tokenizer from instead.
        templates: a folder whose files replace the built-in templates of the same names.
        dtype: what activations are computed in; weights stay in the type of their files. None:
            float32 on a CPU (which is slow in bfloat16), elsewhere the weights' own.
        weights: "int8": the layers' matrices are kept in it, see `models.quantized`; None: in the
            type of their files.
        mesh: devices to spread over; None: one device, or in a job of several processes all of its
            devices, which then share the samples and hold the whole model each.
        chat: arguments of the chat template, such as {"enable_thinking": False}, besides those that
            grm.json has.

    Raises:
        ValueError: tokenizer and weights do not belong together, or the mesh does not fit.
        FileNotFoundError: a missing file, by name.
    """
    path = model_path(name)
    if mesh is None and several():
        mesh = MeshConfig()
    devices = make_mesh(mesh) if mesh is not None else None
    settings = read_settings(path)
    words = Tokenizer.load(
        tokenizer or tokenizer_folder(path), {**settings.get("chat", {}), **(chat or {})}
    )
    expected = settings.get("tokenizer_sha256")
    if expected is not None and words.sha256 != expected:
        raise ValueError(
            f"{path}: the weights were trained with tokenizer {expected[:12]}.., but its "
            f"tokenizer.json is {words.sha256[:12]}..: restore the file that came with the weights."
        )
    if words.chat.dated:
        say(
            f"{path}: its chat template writes today's date. It is {TODAY:%d %b %Y} on any day, so "
            "that the same rows make the same prompts; --chat.date_string sets another where the "
            "template takes one."
        )
    if dtype is None and jax.default_backend() == "cpu":
        dtype = "float32"
    model, params = hf.load_folder(path, mesh=devices, dtype=dtype)
    if weights == "int8":
        params = quantized(params)
    if words.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {words.vocab_size} entries, but the model in {path} embeds only "
            f"{model.config.vocab_size}: they do not belong together; give the model's own one."
        )
    own = path / "templates"
    limit = model.config.max_position
    return ModelFolder(
        path=path,
        model=model,
        params=params,
        tokenizer=words,
        templates=load_templates(templates or (own if own.is_dir() else None)),
        max_new_tokens=settings.get("max_new_tokens", min(DEFAULT_MAX_NEW_TOKENS, limit // 2)),
        mesh=devices,
        kind=settings.get("kind", "grm"),
        critic=path / settings["critic"] if "critic" in settings else None,
    )


def folder_kind(name: str | Path) -> Kind:
    """What kind of judge a model folder holds, as its grm.json says; "grm" where it says nothing.

    Raises:
        FileNotFoundError, ValueError: no such folder, or no such kind.
    """
    return read_settings(model_path(name)).get("kind", "grm")


def model_path(name: str | Path) -> Path:
    """The folder of a bundled model, of that name, or of a hub id.

    Raises:
        FileNotFoundError, ValueError: there is none.
    """
    if str(name) not in BUNDLED:
        return find_folder(name)
    folder = bundled(str(name))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{name} has not been trained yet, so that this version has no folder {folder}. "
            "docs/howto/real.md says how it is made; the model of such a run can be given by the "
            "path of its folder."
        )
    return folder


def read_settings(path: Path) -> dict[str, Any]:
    """What grm.json says in a model folder; nothing where there is none.

    Raises:
        ValueError: it cannot be read, or a value is none that it may have.
    """
    file = path / "grm.json"
    if not file.exists():
        return {}
    settings = read_object(file)
    for name, (good, wanted) in SETTINGS.items():
        if name in settings and not good(settings[name]):
            raise ValueError(f"{file}: {name} is {settings[name]!r}; it must be {wanted}.")
    return settings
