"""`grm export`: a model, or an adapter, as a folder to publish, with a model card."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

from grm_jax.cli.commands import ExportCommand
from grm_jax.judging.folder import model_path, read_settings
from grm_jax.judging.made_from import made_from
from grm_jax.models import hf
from grm_jax.models.adapter_files import read_settings as read_adapter_settings
from grm_jax.models.hf_config import config_from_hf
from grm_jax.models.hf_folder import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    SIGNS,
    TOKENIZER_FILES,
    base_source,
    is_adapter,
    tokenizer_folder,
)
from grm_jax.models.hf_words import write_json
from grm_jax.models.packaged import PACKAGED
from grm_jax.outputs import Made, claimed_folder
from grm_jax.processes import say
from grm_jax.text.files import read_object
from grm_jax.train.card import RECORD, model_card, read_record

CRITIC = "critic"


def run(options: ExportCommand) -> int:
    """Writes the folder; 0."""
    folder, record_of = find_model(options.model)
    whole = options.merge_adapter or not is_adapter(folder)
    record = read_record(record_of) if record_of is not None else None
    read = made_from({"model": str(folder)}, ("model",))
    made = Made("grm export", asdict(options), ("output", "model"), read)
    with claimed_folder(options.output, made, mark="export.yaml") as output:
        part = output / ".part"
        shutil.rmtree(part, ignore_errors=True)
        write_whole_model(folder, part) if whole else copy_adapter(folder, part)
        base = None if whole else public_base(folder)
        card = model_card(output.name, _kind(folder), base, record)
        (part / "README.md").write_text(card, encoding="utf-8")
        _move(part, output)
    say(f"{output} holds the {'model' if whole else 'adapter'} and its card, README.md.")
    return 0


def public_base(folder: Path) -> str:
    """The model that an adapter is for, by a name that others know, too."""
    base = base_source(folder)
    return PACKAGED[base].hub if base in PACKAGED else base


def find_model(name: str) -> tuple[Path, Path | None]:
    """The model's folder that is meant, and the folder of the run that made it, if it is known.

    Raises:
        FileNotFoundError, ValueError: there is no such model, or not yet, or there are several.
    """
    path = Path(name).expanduser()
    if not path.is_dir() or _is_model(path):
        folder = model_path(name)
        above = folder.absolute().parent
        return folder, above if folder.name == "model" and (above / RECORD).is_file() else None
    if _is_model(path / "model"):
        return path / "model", path
    several = sorted(str(inner) for inner in path.glob("*/model") if _is_model(inner))
    if several:
        raise ValueError(f"{path} holds several models: give one of {', '.join(several)}.")
    if (path / RECORD).is_file():
        raise ValueError(
            f"{path} is a run that has written no model yet: the command that began it goes on, "
            "and writes it at its end."
        )
    raise FileNotFoundError(
        f"{path} is neither a model folder (which holds {' or '.join(SIGNS)}) nor a run's."
    )


def _is_model(folder: Path) -> bool:
    return any((folder / sign).is_file() for sign in SIGNS)


def _kind(folder: Path) -> str:
    """The kind of judge, or "meta" for a scalar head that is none."""
    kind = read_settings(folder).get("kind")
    if kind is not None:
        return kind
    return "meta" if config_from_hf(folder)[1] == "scalar" else "grm"


def write_whole_model(folder: Path, part: Path) -> None:
    """Writes a model with all its weights, into which an adapter is merged."""
    model, params = hf.load_folder(folder)
    settings = read_settings(folder)
    extra = {k: v for k, v in settings.items() if k not in ("tokenizer_sha256", "templates")}
    own = folder / "templates"
    hf.save_folder(
        model,
        params,
        part,
        tokenizer=tokenizer_folder(folder),
        extra=extra,
        templates=own if own.is_dir() else None,
    )
    if "critic" in settings:
        shutil.copytree(folder / settings["critic"], part / settings["critic"])


def copy_adapter(folder: Path, part: Path) -> None:
    """Copies an adapter, with the tokenizer of its model where it has none."""
    read_adapter_settings(folder)
    part.mkdir(parents=True)
    words = tokenizer_folder(folder)
    for name in TOKENIZER_FILES:
        if (words / name).is_file():
            shutil.copyfile(words / name, part / name)
    for name in (ADAPTER_WEIGHTS, "grm.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, part / name)
    for name in ("templates", CRITIC):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, part / name)
    settings = read_object(folder / ADAPTER)
    write_json(part / ADAPTER, settings | {"base_model_name_or_path": public_base(folder)})


def _move(part: Path, output: Path) -> None:
    """Puts the files into the output, last of all those by which it is a model."""
    for path in sorted(part.iterdir(), key=lambda path: path.name in SIGNS):
        if (output / path.name).is_dir():
            shutil.rmtree(output / path.name)
        os.replace(path, output / path.name)
    part.rmdir()
