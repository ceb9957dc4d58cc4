"""Reads a command's options into its dataclasses, or says in a sentence what is wrong with one."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace

from grm_jax.cli.failures import chain
from grm_jax.cli.renamed import renamed
from grm_jax.presets import meant

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
MOST_VALUES = 10_000  # in a file of options, aliases followed
_SINGLE = {str, int, float, bool, list}
_CLASSES = ("class_path", "init_args", "dict_kwargs")
_KEY = re.compile(r'Parser key "([^"]+)"')
_TYPE = re.compile(
    r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])\. Got value: (.*)", re.S
)


# What a command takes: dataclasses, whose fields are its options, or a dict of these by subcommand.
# An instance in place of a class brings other defaults.
Options = type | tuple[Any, ...] | dict[str, Any]


def read_options(options: Options, arguments: Sequence[str], command: str) -> Any:
    """The arguments as a value of each dataclass.

    Raises:
        ValueError: an option, or a file of options, is wrong; says which, and where it stands.
    """
    parser = ArgumentParser(prog=f"grm {command}", exit_on_error=False)
    try:
        for path in _files(arguments):
            _check_file(path)
        _check_typed(arguments)
        _add(parser, options)
        read = parser.parse_args(list(arguments))
        _check_groups(options, read)
        return _values(options, parser.instantiate(read))
    except (ArgumentError, ValueError, RecursionError) as error:
        files, names = _files(arguments), _names(parser, arguments)
        message = (
            str(error)
            if isinstance(error, _FileError)
            else renamed(files, arguments, command, names)
            or _sentence(error, files, arguments, names)
        )
        raise ValueError(f"{message}\n`grm {command} --help` lists the options.") from None


def _add(parser: ArgumentParser, options: Options) -> None:
    """Adds the options to the parser of a command."""
    parser.add_argument("--config", action="config", help="Path to a configuration file.")
    if not isinstance(options, dict):
        parser.description = _summary(options)
        for one in _each(options):
            kind, default = (one, None) if isinstance(one, type) else (type(one), one)
            parser.add_class_arguments(kind, as_group=False, default=default, sub_configs=True)
        return
    subcommands = parser.add_subcommands(required=True)
    for name, inner in options.items():
        subparser = ArgumentParser(exit_on_error=False)
        _add(subparser, inner)
        subcommands.add_subcommand(name, subparser, help=_summary(inner))


def _values(options: Options, read: Any) -> Any:
    """The dataclasses with the values read."""
    if isinstance(options, dict):
        return _values(options[read["subcommand"]], read[read["subcommand"]])
    kinds = [one if isinstance(one, type) else type(one) for one in _each(options)]
    values = [kind(**{field.name: read[field.name] for field in fields(kind)}) for kind in kinds]
    return tuple(values) if isinstance(options, tuple) else values[0]


def _check_groups(options: Options, read: Any, above: str = "") -> None:
    """Refuses null for an option that needs a value, and a single value for a group of options.

    Raises:
        ValueError: names it.
    """
    if isinstance(options, dict):
        _check_groups(options[read["subcommand"]], read[read["subcommand"]], above)
        return
    for one in _each(options):
        kind = one if isinstance(one, type) else type(one)
        for name, annotation in get_type_hints(kind).items():
            value, allowed = read[name], get_args(annotation) or (annotation,)
            if value is None and type(None) not in allowed and annotation is not Any:
                raise ValueError(
                    f'Parser key "{above}{name}" is empty (null): leave it out, or give a value.'
                )
            inner = [each for each in allowed if isinstance(each, type) and is_dataclass(each)]
            if inner and isinstance(value, Namespace):
                _check_groups(inner[0], value, f"{above}{name}.")
            elif (
                inner and isinstance(value, (str, int, float, list)) and type(value) not in allowed
            ):
                first = fields(inner[0])[0].name
                raise ValueError(
                    f'Parser key "{above}{name}" is {value!r}, but it is a group of options: set '
                    f"{above}{name}.{first} and the like."
                )


def _each(options: type | tuple[Any, ...]) -> tuple[Any, ...]:
    return options if isinstance(options, tuple) else (options,)


def _summary(options: type | tuple[Any, ...]) -> str:
    """The first sentences of the last dataclass, which is the command's own."""
    return (getdoc(_each(options)[-1]) or "").partition("\n\n")[0]


def _sentence(
    error: BaseException, files: Sequence[Path], arguments: Sequence[str], names: Sequence[str]
) -> str:
    """What the first error of the chain says. Later ones quote it together with all options, some
    of which may be secret."""
    links = list(chain(error))
    keys = [match[1] for link in links if (match := _KEY.match(str(link)))]
    key = ".".join(dict.fromkeys(keys))
    message = str(links[-1]).partition("\nGiven value")[0]
    where = _line_of(key, files, arguments)
    if match := _TYPE.fullmatch(_KEY.sub("", message).lstrip(":\n ")):
        kind, choices, value = match.groups()
        wanted = f"one of {choices}" if choices else _KINDS.get(kind, kind)
        return f"{where}{key} is {value!r}; give {wanted}."
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        return f"there is no option {match[1]}.{meant(match[1].partition('=')[0], names)}"
    if re.match(r"Not a valid subclass of|unhashable type", message):
        return f"{where}{key} is a group of options: write each on a line of its own below it."
    if match := re.match(r"Option '(.+)' is not accepted", message):
        near = meant(f"--{match[1]}", names).replace("--", "")
        return f"{_line_of(match[1], files, arguments)}there is no option {match[1]}.{near}"
    if match := re.match(r"argument subcommand: invalid choice: '(.+?)'", message):
        return f"{message}.{meant(match[1], names)}"
    if match := re.match(r"the following arguments are required: (.+)", message):
        return f"{where}{key}.{match[1]} is needed and not given."
    return where + _KEY.sub(key, message) if key else message


def _names(parser: Any, arguments: Sequence[str]) -> list[str]:
    """The options, --like.this, of the command and of the subcommands that are given, and all
    subcommands' names."""
    names, parsers = [], [parser]
    for one in parsers:  # grows
        for action in one._actions:
            names += action.option_strings
            if isinstance(action.choices, Mapping):
                names += action.choices
                parsers += [own for name, own in action.choices.items() if name in arguments]
    return names


def _files(arguments: Sequence[str]) -> list[Path]:
    """The files that --config names."""
    names: list[str] = []
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config":
            names += [value] if equals else arguments[index + 1 : index + 2]
    return [Path(name).expanduser() for name in names]


class _FileError(ValueError):
    """A sentence about a file of options."""


def _check_typed(arguments: Sequence[str]) -> None:
    """Refuses options that are typed by the names of _CLASSES, as in `--mesh '{init_args: x}'`.

    Raises:
        ArgumentError: names the option.
    """
    for argument in arguments:
        is_option = argument.startswith("--")
        option, _, value = argument.partition("=") if is_option else ("", "", argument)
        names = option.removeprefix("--").split(".")
        if value.startswith("{"):
            with suppress(yaml.YAMLError, RecursionError):  # the parser says so
                names += [str(name.value) for name in _names_in(yaml.compose(value))]
        if wrong := next((name for name in names if name in _CLASSES), None):
            raise ArgumentError(None, f"there is no option {wrong}.")


def _names_in(node: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes that stand before a colon."""
    if isinstance(node, yaml.MappingNode):
        yield from (name for name, _ in node.value)
    for part in _parts(node):
        yield from _names_in(part)


def _check_file(path: Path) -> None:
    """Raises _FileError, in a sentence, if a file of options cannot be read."""
    if not path.exists():
        raise _FileError(f"there is no file {path} (looked from {Path.cwd()}).")
    if path.is_dir():
        raise _FileError(f"{path} is a folder: name a YAML file of options in it.")
    if not path.is_file():
        return  # a pipe, which can be read only once
    try:
        root = yaml.compose(path.read_text("utf-8-sig"))
        if root is not None:
            _check_aliases(root, path)
            _check_scalars(root, path)
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except _FileError:
        raise
    except UnicodeDecodeError as error:
        raise _FileError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _FileError(f"{path}:{line} is not YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise _FileError(f"{path} cannot be read as YAML: {said}.") from None
    if not isinstance(content, dict):
        held = "nothing" if content is None else "no options"
        raise _FileError(f"{path} holds {held}: write one option per line, such as `seed: 1`.")


def _check_aliases(root: yaml.Node, path: Path) -> None:
    """Refuses aliases (`&name`, `*name`) that would be followed for ever."""
    sizes: dict[int, int] = {}  # of values that each node stands for

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # in case it contains itself
            sizes[id(node)] = 1 + sum(map(size, _parts(node)))
        if sizes[id(node)] > MOST_VALUES:
            raise _FileError(
                f"{path}:{node.start_mark.line + 1}: an alias here stands for itself, or for more "
                f"than {MOST_VALUES:,} values: write them out."
            )
        return sizes[id(node)]

    size(root)


def _check_scalars(node: yaml.Node, path: Path) -> None:
    """Refuses a value that is not what its tag (`!!int`) or its form (a date) says, a name that is
    no text, and names by which jsonargparse would make objects of classes that a file names."""
    for name, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        kind = name.tag.removeprefix("tag:yaml.org,2002:")
        if name.value in _CLASSES:
            raise _FileError(f"{path}:{name.start_mark.line + 1}: there is no option {name.value}.")
        if kind not in ("str", "merge"):
            where = f"{path}:{name.start_mark.line + 1}"
            raise _FileError(
                f"{where}: a name is wanted before the colon, and not a value ({kind})."
            )
    if isinstance(node, yaml.ScalarNode):
        try:
            yaml.SafeLoader("").construct_object(node)
        except yaml.YAMLError:
            pass  # explained by who loads it; or `<<`, which is no value by itself
        except (AttributeError, LookupError, ValueError):  # PyYAML's own, on `!!timestamp x`
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            message = f"{path}:{node.start_mark.line + 1}: {node.value!r} is no {kind}"
            raise _FileError(f"{message}: mend it, or quote it if it is text.") from None
    for part in _parts(node):
        _check_scalars(part, path)


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    for one in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from one if isinstance(one, tuple) else (one,)


def _line_of(key: str, files: Sequence[Path], arguments: Sequence[str]) -> str:
    """Where an option was read, as "FILE:LINE: "; "" if it was typed."""
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
