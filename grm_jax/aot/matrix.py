"""Many programs on many slices, one compile at a time: what is done is kept, line by line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from grm_jax.aot.config import PROGRAMS
from grm_jax.aot.topology import Topology
from grm_jax.models.config import PRESETS

Row = dict[str, Any]
GRM = "import sys; from grm_jax.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class GroupConfig:
    """Every preset x topology x program of a group is compiled, with the same work.

    Args:
        sequences, group, length, new: as of `grm aot`.

    Raises:
        ValueError: a preset, topology or program that is none.
    """

    presets: tuple[str, ...]
    topologies: tuple[str, ...]
    programs: tuple[str, ...]
    sequences: int | None = None
    group: int = 0
    length: int = 4096
    new: int = 1024

    def __post_init__(self) -> None:
        for told, known, name in (
            (self.presets, PRESETS, "presets"),
            (self.programs, PROGRAMS, "programs"),
        ):
            if strange := [x for x in told if x not in known]:
                raise ValueError(f"{name} has {strange[0]!r}; there are {', '.join(known)}.")
        for topology in self.topologies:
            Topology(topology)


def commands(groups: Sequence[GroupConfig]) -> Iterator[tuple[str, ...]]:
    """The `grm` command of every combination, in the order of the groups."""
    for g in groups:
        for preset, topology, program in product(g.presets, g.topologies, g.programs):
            given = PROGRAMS[program][0] if g.sequences is None else g.sequences
            work = {"sequences": given, "group": g.group, "length": g.length, "new": g.new}
            yield (
                *("aot", "--preset", preset, "--topology", topology, "--program", program),
                *(word for name, value in work.items() for word in (f"--{name}", str(value))),
            )


def fill(groups: Sequence[GroupConfig], data: Path, tell: Callable[[str], None]) -> list[Row]:
    """Compiles what `data` (JSON lines) does not hold yet, each in a process of its own.

    A program that cannot be compiled gets a line with the reason as its `error`; the others go on,
    and the next call tries it again.

    Returns:
        The rows of these groups, in their order.
    """
    wanted = list(commands(groups))
    done = {row["command"]: row for row in read(data)}
    data.parent.mkdir(parents=True, exist_ok=True)
    for number, words in enumerate(wanted, 1):
        command = " ".join(("grm", *words))
        if "error" in done.get(command, {"error": None}):
            tell(f"{number} of {len(wanted)}: {command}")
            done[command] = {"command": command, **_compile(words)}
            with data.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[command]) + "\n")
    return [done[" ".join(("grm", *words))] for words in wanted]


def read(data: Path) -> list[Row]:
    """The newest line of every command.

    Raises:
        ValueError: a line that is no result, by its number.
    """
    rows: dict[str, Row] = {}
    lines = data.read_text(encoding="utf-8").splitlines() if data.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[row["command"]] = row
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{data}:{number}: this is no line of `grm aot matrix`.") from None
    return list(rows.values())


def _compile(words: Sequence[str]) -> Row:
    """One result, from a process that gives its memory back."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "cost.json"
        child = subprocess.run(
            [sys.executable, "-c", GRM, *words, "--output", str(output)],
            capture_output=True,
            text=True,
        )
        if output.exists():
            return json.loads(output.read_text())
    said = child.stderr.strip().splitlines()
    return {"error": said[-1] if said else f"the compiler ended with status {child.returncode}"}
