"""What a model folder holds besides its weights, and how a folder appears whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grm_jax.copies import share
from grm_jax.models.hf_folder import SIGNS, TOKENIZER_FILES
from grm_jax.processes import is_first
from grm_jax.text.tokenizer import Tokenizer


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path | None]:
    """A folder to write a model into, which then gets its name; one that is there is replaced.

    In a job of several processes all must enter; None in those that do not write.

    Raises:
        FileExistsError: `folder` is a file, or holds files and no model.
    """
    folder = Path(folder).expanduser().absolute()
    _check_free(folder)
    if is_first():
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # what a killed export left
        try:
            part.mkdir(parents=True)
            yield part
            _put_in_place(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    else:
        yield None
    share()


def _check_free(folder: Path) -> None:
    ours = folder.is_dir() and any((folder / sign).is_file() for sign in SIGNS)
    if ours or (folder.is_dir() and not any(folder.iterdir())):
        return
    if folder.exists():
        raise FileExistsError(
            f"{folder} is there and is not a model folder, so nothing was written. Give a new "
            "folder, or an earlier export, which is then replaced."
        )


def write_words(
    folder: Path,
    tokenizer: Tokenizer | str | Path | None,
    extra: Mapping[str, Any] | None,
    templates: str | Path | None,
) -> dict[str, int | None]:
    """Writes the tokenizer, the templates and grm.json; gives the ids that config.json names."""
    settings = dict(extra or {})
    ids: dict[str, int | None] = {}
    if tokenizer is not None:
        words = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.load(tokenizer)
        words.save(folder)
        ids = {"pad_id": words.pad_id, "eos_id": words.eos_id, "bos_id": words.bos_id}
        generation = {
            "pad_token_id": words.pad_id,
            "eos_token_id": list(words.stop_ids),
            "bos_token_id": words.bos_id,
        }
        generation = {name: value for name, value in generation.items() if value is not None}
        write_json(folder / "generation_config.json", generation)
        settings["tokenizer_sha256"] = words.sha256
        if words.arguments:
            settings["chat"] = words.arguments
        source = folder if isinstance(tokenizer, Tokenizer) else Path(tokenizer)
        for name in TOKENIZER_FILES if source != folder else ():
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    if templates is not None:
        shutil.copytree(templates, folder / "templates")
        settings["templates"] = "templates"
    if settings:
        write_json(folder / "grm.json", settings)
    return ids


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object to be read by people, too."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _put_in_place(part: Path, folder: Path) -> None:
    """Renames the finished folder, an earlier export stepping aside first."""
    if folder.exists():
        old = part.with_name(part.name + "-old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old)
    else:
        part.rename(folder)
