"""What comes with the package and is found by name: YAML presets, templates, bundled models.

In a checkout presets lie in `configs/` beside the package; a wheel has that folder inside it.
A path that is there goes before a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

# The small world's models: where SPCT starts, what it makes, and the meta RM beside it; and the
# same of real text, as adapters for SmolLM2-135M-Instruct.
BUNDLED = ("tiny-start", "tiny", "tiny-meta", "smol-start", "smol", "smol-meta")
PACKAGE = Path(__file__).resolve().parent
# The presets that a command takes as its --config.
CONFIGS = {"train": "train", "experiment": "experiments", "aot matrix": "aot", "data": "data"}
NAME = re.compile(r"(?:configs/[\w-]+/)?[\w.-]+")  # all else is a path, or YAML itself


def folder() -> Path:
    """The folder `configs`, wherever this installation has it."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def names(kind: str) -> list[str]:
    """The names of the presets in one folder of `configs`."""
    return sorted(path.stem for path in (folder() / kind).iterdir())


def by_name(command: str, arguments: Sequence[str]) -> list[str]:
    """A command's arguments with the path of a preset for its name, in --config and each --mesh.

    Raises:
        ValueError: a name of no preset and no file; the nearest names are given.
    """
    found, kind = [], None
    for argument in arguments:
        if kind is not None:
            found.append(find(kind, argument))
            kind = None
            continue
        option, equals, value = argument.partition("=")
        kind = _kind_of(command, option)
        if equals and kind is not None:
            argument, kind = f"{option}={find(kind, value)}", None
        found.append(argument)
    return found


def _kind_of(command: str, option: str) -> str | None:
    """The folder in which the values of an option are looked for, if it takes presets."""
    if option == "--config":
        return CONFIGS.get(command)
    return "mesh" if option.startswith("--") and re.split("[-.]", option)[-1] == "mesh" else None


def find(kind: str, name: str) -> str:
    """The path of a preset by its name, with or without .yaml; a path or YAML comes back as it is.

    Raises:
        ValueError: a name of no preset and no file; the nearest names are given.
    """
    if Path(name).is_file() or not NAME.fullmatch(name) or name in ("null", "None"):
        return name
    path = folder() / kind / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    if name not in (path.stem, path.name, f"configs/{kind}/{path.name}") or not path.is_file():
        raise ValueError(_unknown("preset", path.stem, names(kind)))
    return str(path)


def templates(name: str | Path) -> Path:
    """A folder (or file) of prompt templates: a path, or the name of one that comes along.

    Raises:
        FileNotFoundError: neither.
    """
    path = Path(name)
    if path.exists():
        return path
    ours = Path(str(name).removeprefix("configs/templates/"))
    for found in (folder() / "templates" / ours, PACKAGE / "assets" / ours / "templates"):
        if found.is_dir():
            return found
    known = [*names("templates"), *_with_templates()]
    raise FileNotFoundError(
        f"there is no template file or folder at {name}; those that come along are "
        f"{', '.join(known)}"
    )


def _with_templates() -> Iterable[str]:
    return (name for name in BUNDLED if (bundled(name) / "templates").is_dir())


def bundled(name: str) -> Path:
    """The folder of a model that comes with the package."""
    return PACKAGE / "assets" / name


def _unknown(what: str, name: str, known: list[str]) -> str:
    return (
        f"there is no {what} {name!r}, nor a file of that name.{meant(name, known)} "
        f"The {what}s are {', '.join(known)}."
    )


def meant(name: str, known: Iterable[str]) -> str:
    """The question whether one of the known names was meant; "" where none is near."""
    near = get_close_matches(name, [*known], n=1)
    return f" Did you mean {near[0]}?" if near else ""
