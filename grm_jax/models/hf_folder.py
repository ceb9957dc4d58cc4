"""Which model folder a name means: a path, or the download of a hub id; and what is no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grm_jax.models.packaged import PACKAGED, how_to_get, packaged_file
from grm_jax.models.spec import Head
from grm_jax.places import at_hand
from grm_jax.text.files import is_hub_id, read_object
from grm_jax.text.gguf_file import SUFFIX, find_gguf

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
# What PEFT calls the two files of an adapter.
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SIGNS = ("config.json", ADAPTER)  # a folder with one of them holds a model
# What we read of a hub repository; many hold the weights a second time in other formats.
HUB_PATTERNS = [
    *TOKENIZER_FILES,
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "grm.json",
    "templates/*",
    "critic/*",
    ADAPTER,
    ADAPTER_WEIGHTS,
]


def find_folder(source: str | Path) -> Path:
    """The folder that `source` names: itself, or the download of a hub id (cached by its client);
    or a model that a package carries, by its name, and where that is not installed the hub's.
    A GGUF file is as good as a folder; what an address names is copied to this machine first.

    Raises:
        FileNotFoundError: neither a folder nor a hub id, or the hub did not give it.
        ValueError: it is another file.
    """
    path = at_hand(source).expanduser()
    if path.is_dir() or find_gguf(path):
        return path
    if path.exists():
        raise ValueError(
            f"{path} is a file: give the folder of the model, which holds config.json."
        )
    if path.suffix == SUFFIX:
        raise FileNotFoundError(f"There is no file {path} (looked from {Path.cwd()}).")
    if str(source) in PACKAGED:
        return _packaged(str(source))
    if not is_hub_id(str(source)):
        raise FileNotFoundError(
            f"There is no model folder {path} (looked from {Path.cwd()}), and it is no hub id "
            "(owner/name) either. Give the folder that holds config.json."
        )
    from huggingface_hub import snapshot_download  # slow to import, and seldom needed

    try:
        return Path(snapshot_download(str(source), allow_patterns=HUB_PATTERNS))
    except OSError as error:  # what all of the client's network, access and name errors are
        reason = " ".join(str(error).split())[:300]
        raise FileNotFoundError(
            f"There is no folder {source} here (looked from {Path.cwd()}{_beside(path)}), and the "
            f"hub did not give a model of that id ({type(error).__name__}: {reason}). Check the id "
            "and the network; for a gated model accept its licence and run `hf auth login`; or "
            "download it elsewhere and give the local folder."
        ) from error


def _packaged(name: str) -> Path:
    if (file := packaged_file(name)) is not None:
        return file
    try:
        return find_folder(PACKAGED[name].hub)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{how_to_get(name)}. {error}") from error


def _beside(path: Path) -> str:
    """What there is in the folder that a missing path would be in: it was probably meant."""
    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.iterdir() if p.is_dir())[:8]
    return f"; {path.parent} holds {', '.join(names) or 'no folder'}"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter for another model, and not a model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def adapter_head(folder: Path) -> Head | None:
    """The head that an adapter's model has: a scalar one if it classifies, else its own (None)."""
    return "scalar" if read_object(folder / ADAPTER).get("task_type") == "SEQ_CLS" else None


def base_name(folder: Path) -> str:
    """The model that an adapter is for, as its adapter_config.json has it: a path or a hub id.

    Raises:
        ValueError: it names none.
    """
    name: Any = read_object(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"{folder / ADAPTER}: base_model_name_or_path is {name!r}, so it is not known which "
            "model the adapter is for: write its folder or hub id there."
        )
    return name


def base_source(folder: Path) -> str:
    """The same, with a path that begins at the adapter's own folder written out."""
    name = base_name(folder)
    return str((folder / name).absolute()) if (folder / name).is_dir() else name


def base_folder(folder: Path) -> Path:
    """The folder of the model that an adapter is for; of a whole model the folder itself.

    Raises:
        FileNotFoundError: there is no such folder, and the hub did not give it.
        ValueError: the adapter names none, or another adapter.
    """
    if not is_adapter(folder):
        return folder
    name = base_source(folder)
    try:
        base = find_folder(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} is an adapter for {name}, which is needed too. {error} Or write where it is "
            f"into base_model_name_or_path of {folder / ADAPTER}."
        ) from error
    if is_adapter(base):
        raise ValueError(
            f"{folder} is an adapter for {base}, which is an adapter itself: merge that one into "
            "its model with `grm export --merge-adapter true`, and name the result in "
            f"base_model_name_or_path of {folder / ADAPTER}."
        )
    return base


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer of a model is: an adapter without one has that of its model."""
    return folder if (folder / "tokenizer.json").is_file() else base_folder(folder)
