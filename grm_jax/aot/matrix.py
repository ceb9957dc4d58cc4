"""Many programs for many slices, compiled one at a time; results are kept line by line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from grm_jax.aot.config import PROGRAMS, GroupConfig

Row = dict[str, Any]
GRM = "import sys; from grm_jax.cli import main; sys.exit(main(sys.argv[1:]))"


def commands(groups: Sequence[GroupConfig]) -> Iterator[tuple[str, ...]]:
    """The `grm` command for every combination, in the order of the groups."""
    for g in groups:
        for preset, topology, program in product(g.presets, g.topologies, g.programs):
            given = PROGRAMS[program][0] if g.sequences is None else g.sequences
            work: Row = {"sequences": given, "group": g.group, "length": g.length, "new": g.new}
            if g.remat != "full":
                work["remat"] = g.remat
            if g.extrapolate:
                work["extrapolate"] = "true"
            yield (
                *("aot", "--preset", preset, "--topology", topology, "--program", program),
                *(word for name, value in work.items() for word in (f"--{name}", str(value))),
            )


def fill(groups: Sequence[GroupConfig], data: Path, tell: Callable[[str], None]) -> list[Row]:
    """Compiles the programs that `data` (JSON lines) does not have yet, each in its own process.

    A program that cannot be compiled gets a line with the reason as its `error`. The others go on,
    and the next call tries it again.

    Returns:
        The rows of these groups, in order.
    """
    wanted = list(commands(groups))
    done = {row["command"]: row for row in read(data)}
    data.parent.mkdir(parents=True, exist_ok=True)
    for number, words in enumerate(wanted, 1):
        command = " ".join(("grm", *words))
        if "error" in done.get(command, {"error": None}):
            tell(f"{number} of {len(wanted)}: {command}")
            done[command] = {"command": command, **compile_apart(words)}
            with data.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[command]) + "\n")
    return [done[" ".join(("grm", *words))] for words in wanted]


def read(data: Path) -> list[Row]:
    """The newest line of every command.

    Raises:
        ValueError: a line is not a result; names its number.
    """
    rows: dict[str, Row] = {}
    lines = data.read_text(encoding="utf-8").splitlines() if data.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[row["command"]] = row
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{data}:{number}: this is not a line of `grm aot matrix`.") from None
    return list(rows.values())


def compile_apart(words: Sequence[str]) -> Row:
    """A result, compiled in its own process, whose memory is freed."""
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
