"""The JSONL file of verdicts: written line by line, and continued after any stop."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from grm_jax.data.sources import BadRow
from grm_jax.judging.judgment import Refusal, Verdict
from grm_jax.judging.result_file import Line, ResultFile
from grm_jax.text.messages import Example


class VerdictFile:
    """Writes the verdicts on rows, in the first process; keeps what the file has already.

    Args:
        path: the file, which is claimed.
        folder: the input, if it is a folder: each line then names its row's file.

    Attributes:
        on_row: is called with 1 when a row has its line.

    Raises:
        ValueError: the file holds a line that is not ours.
    """

    def __init__(self, path: Path, folder: Path | None = None):
        self.path = path
        self.on_row: Callable[[int], object] = lambda count: None
        self._counts: Counter[str] = Counter()
        self._engines: Counter[str] = Counter()
        self._kept = 0
        self._file = ResultFile(path, VerdictLines(folder), on_line=self._count)

    @property
    def done(self) -> int:
        """How many results the file had already."""
        return self._file.done

    @property
    def verdicts(self) -> int:
        """How many rows have a verdict."""
        return self._counts["verdicts"]

    def __enter__(self) -> VerdictFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def left(self, rows: Iterable[Example | BadRow]) -> Iterator[Example]:
        """The rows that are to be judged."""
        return self._file.left(rows)

    def write(self, result: Verdict | Refusal) -> None:
        """Writes the lines of a result; they survive a kill of the process."""
        self._file.write(result)

    def finish(self, *, limited: bool) -> None:
        """Puts the lines in the order of the rows; `limited`: there may be more rows than these."""
        self._kept = self._file.finish(limited=limited)

    def summary(self) -> str:
        """One sentence on what the file holds now."""
        kept = f" {self._kept} lines of other rows are kept at its end." if self._kept else ""
        if len(self._engines) > 1:
            kept += f" {_sizes(self._engines)}"
        return (
            f"{self.path}: {self._counts['verdicts']} verdicts, {self._counts['errors']} rows with "
            f"an error; {self._counts['valid']} of {self._counts['samples']} samples had scores."
            f"{kept}"
        )

    def saved(self, k: int, confidence: float) -> str:
        """One sentence on how many votes adaptive voting did without."""
        most = k * self._counts["verdicts"]
        share = (most - self._counts["samples"]) / most if most else 0.0
        if confidence == 1:
            return f"{share:.1%} of {most} votes were not needed to find the winners."
        return (
            f"{share:.1%} of {most} votes were left out; each winner is that of all its {k} votes "
            f"with a probability of {confidence} or more."
        )

    def _count(self, line: Line) -> None:
        self._counts["errors" if "error" in line else "verdicts"] += 1
        if "error" not in line:
            size = line.get("engine") or {"of unknown size": ""}
            self._engines[", ".join(f"{name} {count}".strip() for name, count in size.items())] += 1
        self._counts["samples"] += line.get("k", 0)
        self._counts["valid"] += line.get("valid", 0)
        self.on_row(1)


class VerdictLines:
    """The `Form` of a file of verdicts: each begins with the row's id as it was, and its line."""

    def __init__(self, folder: Path | None = None):
        self._folder = folder

    def fresh(self, result: Any, row: Example) -> Line:
        return self._head(row, row.meta.get("path")) | _without_id(result.to_json())

    def again(self, line: Line, row: Example) -> Line:
        kept = {name: value for name, value in line.items() if name not in ("line", "path")}
        return self._head(row, row.meta.get("path")) | _without_id(kept)

    def bad(self, row: BadRow) -> Line:
        return self._head(row, row.path) | {"error": str(row)}

    def digest(self, line: Line) -> str | None:
        if "digest" not in line:
            raise ValueError(
                "it does not say what was judged: an earlier version of grm or another program "
                "wrote it"
            )
        return line["digest"]

    def _head(self, row: Example | BadRow, path: Any) -> Line:
        head: Line = {"id": row.id if row.own_id is None else row.own_id, "line": row.line}
        if self._folder is not None and isinstance(path, str):
            head["path"] = os.path.relpath(path, self._folder)
        return head | ({"digest": row.digest} if isinstance(row, Example) else {})


def _sizes(engines: Counter[str]) -> str:
    """One sentence on engines of several sizes."""
    parts = (f"{count} ({size})" for size, count in engines.most_common())
    return (
        f"Engines of several sizes drew its verdicts, which rounds differently: {', '.join(parts)}."
    )


def _without_id(line: Line) -> Line:
    return {name: value for name, value in line.items() if name != "id"}
