"""Options that had another name before: whoever gives the old one is told the new one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

# What an option belongs to (the option above it; at the top, the command's last word), the name
# that it had there, and the name that it has now. "" stands for everything else.
RENAMED = {
    ("batch", "rows"): "sequences",
    ("aot", "rows"): "sequences",
    ("groups", "rows"): "sequences",
    ("data", "rows"): "source",
    ("general", "rows"): "source",
    ("input", "rows"): "source",
    ("items", "rows"): "source",
    ("grpo", "batch"): "per_step",
    ("grpo", "batch_unit"): "per_step_unit",
    ("", "rows"): "slots",
}


def renamed(
    files: Sequence[Path], arguments: Sequence[str], command: str, names: Sequence[str]
) -> str | None:
    """The sentence on the first option that is given under an old name; None where there is none.

    Args:
        files: YAML of options.
        arguments, command: as for `read_options`.
        names: the command's options, --like.this.
    """
    subcommand = [one for one in arguments[:1] if not one.startswith("-")]
    top = (subcommand or command.split())[-1]
    for where, dashes, path in _given(files, arguments):
        *above, old = path
        new = RENAMED.get((above[-1] if above else top, old), RENAMED.get(("", old)))
        if new is not None and (above or f"--{new}" in names):
            before, now = (dashes + ".".join([*above, name]) for name in (old, new))
            return f"{where}there is no option {before} any more: it is {now} now."
    return None


def _given(
    files: Sequence[Path], arguments: Sequence[str]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(FILE:LINE and a colon, or nothing; the dashes before its name; its path) of each option."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("--") and name != "--config":
            path = tuple(name[2:].rstrip("+").split("."))
            text = value if equals else "".join(arguments[index + 1 : index + 2])
            with suppress(yaml.YAMLError, ValueError, RecursionError):
                for inner, _ in _leaves(yaml.compose(text), path, set()):
                    yield "", "--", inner
    for file in filter(Path.is_file, files):
        for path, line in _leaves(yaml.compose(file.read_text("utf-8-sig")), (), set()):
            yield f"{file}:{line}: ", "", path


def _leaves(
    node: yaml.Node | None, path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], int]]:
    """The path and the line of every plain value. Lists add nothing to a path; what an alias
    repeats is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            own = () if name.value == "<<" else (str(name.value),)
            yield from _leaves(value, path + own, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _leaves(value, path, seen)
    elif path:
        yield path, 1 if node is None else node.start_mark.line + 1
