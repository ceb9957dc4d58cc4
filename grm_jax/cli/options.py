"""The options of a command as its dataclass, and what is wrong with one of them, in a sentence."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli

from grm_jax.cli.failures import chain

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
_KEY = re.compile(r'Parser key "([^"]+)"')
_TYPE = re.compile(
    r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])\. Got value: (.*)", re.S
)


def read_options(components: Any, arguments: Sequence[str], command: str) -> Any:
    """What the options say, by jsonargparse.

    Raises:
        ValueError: an option, or a file of them, that is none; the sentence says which.
    """
    try:
        return auto_cli(
            components,
            args=list(arguments),
            as_positional=False,
            prog=f"grm {command}",
            exit_on_error=False,
        )
    except (ArgumentError, ValueError, RecursionError) as error:
        files = _files(arguments)
        faults = [fault for path in files if (fault := _file_fault(path)) is not None]
        told = faults[0] if faults else _sentence(error, files, arguments)
        raise ValueError(f"{told}\n`grm {command} --help` lists the options.") from None


def _sentence(error: BaseException, files: Sequence[Path], arguments: Sequence[str]) -> str:
    """What the first error of the chain says. The later ones only quote it, with all options
    around it, and among those may be what nobody else is to see."""
    links = list(chain(error))
    keys = [match[1] for link in links if (match := _KEY.match(str(link)))]
    key = ".".join(dict.fromkeys(keys))
    told = str(links[-1]).partition("\nGiven value")[0]
    where = _line_of(key, files, arguments)
    if match := _TYPE.fullmatch(_KEY.sub("", told).lstrip(":\n ")):
        kind, choices, value = match.groups()
        wanted = f"one of {choices}" if choices else _KINDS.get(kind, kind)
        return f"{where}{key} is {value!r}; give {wanted}."
    if match := re.match(r"unrecognized arguments: (\S+)", told):
        return f"there is no option {match[1]}."
    if match := re.match(r"Option '(.+)' is not accepted", told):
        return f"{_line_of(match[1], files, arguments)}there is no option {match[1]}."
    if match := re.match(r"the following arguments are required: (.+)", told):
        return f"{where}{key}.{match[1]} is needed and not given."
    return where + _KEY.sub(key, told) if key else told


def _files(arguments: Sequence[str]) -> list[Path]:
    """The files that --config names."""
    found = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config":
            found += [value] if equals else arguments[place + 1 : place + 2]
    return [Path(name).expanduser() for name in found]


def _file_fault(path: Path) -> str | None:
    """Why a file holds no options; None where it does."""
    if not path.exists():
        return f"there is no file {path} (looked from {Path.cwd()})."
    if path.is_dir():
        return f"{path} is a folder: name a YAML file of options in it."
    if not path.is_file():
        return None  # a pipe, which was read already
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        return f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8."
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return f"{path}:{line} is not YAML: {error.problem}."
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return f"{path} cannot be read as YAML: {' '.join(str(error).split())}."
    if not isinstance(content, dict):
        held = "nothing" if content is None else "no options"
        return f"{path} holds {held}: write one option per line, such as `seed: 1`."
    return None


def _line_of(key: str, files: Sequence[Path], arguments: Sequence[str]) -> str:
    """Where an option was read, as FILE:LINE and a colon; nothing where it was typed."""
    if any(argument.partition("=")[0] == f"--{key}" for argument in arguments):
        return ""
    for path in filter(Path.is_file, files):
        node = yaml.compose(path.read_text("utf-8-sig"))
        line = None
        for part in key.split("."):
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            line, node = next(
                ((name.start_mark.line + 1, value) for name, value in pairs if name.value == part),
                (None, None),
            )
        if line is not None:
            return f"{path}:{line}: "
    return ""
