"""Which model folder a name means: a path, or the download of a hub id; and what is no model."""

from __future__ import annotations

from pathlib import Path

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
# What we read of a hub repository; many hold the weights a second time in other formats.
HUB_PATTERNS = [
    *TOKENIZER_FILES,
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "grm.json",
    "templates/*",
    "critic/*",
    "adapter_config.json",
]


def find_folder(source: str | Path) -> Path:
    """The folder that `source` names: itself, or the download of a hub id (cached by its client).
    A GGUF file is as good as a folder.

    Raises:
        FileNotFoundError: neither a folder nor a hub id, or the hub did not give it.
        ValueError: it is another file, or an adapter for another model.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _whole(path)
    if find_gguf(path):
        return path
    if path.exists():
        raise ValueError(
            f"{path} is a file: give the folder of the model, which holds config.json."
        )
    if path.suffix == SUFFIX:
        raise FileNotFoundError(f"There is no file {path} (looked from {Path.cwd()}).")
    if not is_hub_id(str(source)):
        raise FileNotFoundError(
            f"There is no model folder {path} (looked from {Path.cwd()}), and it is no hub id "
            "(owner/name) either. Give the folder that holds config.json."
        )
    from huggingface_hub import snapshot_download  # slow to import, and seldom needed

    try:
        return _whole(Path(snapshot_download(str(source), allow_patterns=HUB_PATTERNS)))
    except OSError as error:  # what all of the client's network, access and name errors are
        reason = " ".join(str(error).split())[:300]
        raise FileNotFoundError(
            f"There is no folder {source} here (looked from {Path.cwd()}{_beside(path)}), and the "
            f"hub did not give a model of that id ({type(error).__name__}: {reason}). Check the id "
            "and the network; for a gated model accept its licence and run `hf auth login`; or "
            "download it elsewhere and give the local folder."
        ) from error


def _beside(path: Path) -> str:
    """What there is in the folder that a missing path would be in: it was probably meant."""
    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.iterdir() if p.is_dir())[:8]
    return f"; {path.parent} holds {', '.join(names) or 'no folder'}"


def _whole(folder: Path) -> Path:
    """The folder, unless it holds an adapter in the place of a model."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and not (folder / "config.json").is_file():
        base = read_object(adapter).get("base_model_name_or_path") or "its base model"
        raise ValueError(
            f"{folder} holds an adapter (adapter_config.json) and not a whole model. Merge it into "
            f"{base}, with peft: AutoPeftModelForCausalLM.from_pretrained({str(folder)!r})"
            ".merge_and_unload().save_pretrained(FOLDER); and give that folder, with the tokenizer "
            "in it."
        )
    return folder
