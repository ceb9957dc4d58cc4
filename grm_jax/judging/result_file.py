"""Results of judging in a file of JSON lines, each known again by what it is the result of.

A row is done when there is a line for its content (`Example.digest`), whatever its id and position;
lines that say something else of the row, such as an old label, are written anew from the same
result. Rows of the same content share one result and have a line each. Lines are appended while
rows are judged and put in the order of the rows at the end, so that a killed run goes on.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from grm_jax.copies import share
from grm_jax.judging.judgment import Refusal, Sampled, Verdict
from grm_jax.judging.line_files import LineFiles
from grm_jax.processes import from_first, is_first
from grm_jax.text.json_line import json_line, plain
from grm_jax.text.messages import Example

Line = dict[str, Any]
Result = Verdict | Sampled | Refusal


class Form(Protocol):
    """What lines look like."""

    def fresh(self, result: Result, row: Example) -> Line:
        """The line of a row, from its result."""
        ...

    def again(self, line: Line, row: Example) -> Line:
        """The line of a row, from a line with the result for its content."""
        ...

    def bad(self, row: Any) -> Line:
        """The line of a row that is no Example."""
        ...

    def digest(self, line: Line) -> str | None:
        """The digest of what a line is the result of; None where that is to be asked again.

        Raises:
            ValueError: this is no such line.
        """
        ...


class ResultFile:
    """The results of the rows that `left` is given.

    In a job of several processes all do the same, and the first has the files. Memory holds some
    numbers for each row, and the rows that are under way.

    Args:
        path, part, others: the files, see `LineFiles`; by default lines are appended to `path`.
        on_line: is called with each row's line when it has one.

    Raises:
        ValueError: a file holds a line that is none of these.
    """

    def __init__(
        self,
        path: Path,
        form: Form,
        *,
        part: Path | None = None,
        others: Sequence[Path] = (),
        on_line: Callable[[Line], object] = lambda line: None,
    ):
        self._form, self._on_line = form, on_line
        self._files = LineFiles(path, part or path, others)
        self._done: dict[int, int] = {}  # by digest, the position of the first line with it
        self._further: dict[int, list[int]] = {}
        self._order = array("q")  # the position of each row's line; -1 until it has one
        self._waiting: dict[str, list[tuple[int, Example]]] = {}  # by the id of the one asked
        self._asked: dict[str, str] = {}  # that id, by digest
        digests = from_first(self._open)
        if not is_first():
            self._done = dict.fromkeys(digests, 0)
        self.done = len(digests)

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def left(self, rows: Iterable[Example | Any]) -> Iterator[Example]:
        """The rows that are to be judged; when it comes to its end, the others have their lines."""
        for row in rows:
            index = len(self._order)
            self._order.append(-1)
            if not isinstance(row, Example):
                self._put_bad(index, row)
            elif row.digest in self._asked:
                self._waiting[self._asked[row.digest]].append((index, row))
            elif int(row.digest, 16) in self._done:
                self._put_again(index, row)
            else:
                # While they are under way, results are known by id, which must differ.
                asked = replace(row, id=row.digest) if row.id in self._waiting else row
                self._asked[row.digest] = asked.id
                self._waiting[asked.id] = [(index, row)]
                yield asked

    def write(self, result: Result) -> None:
        """Writes the lines of all rows with this content; they survive a kill of the process."""
        rows = self._waiting.pop(result.example.id if isinstance(result, Sampled) else result.id)
        del self._asked[rows[0][1].digest]
        for index, row in rows:
            self._append(index, plain(self._form.fresh(result, row)), int(row.digest, 16))

    def lines(self) -> Iterator[Line]:
        """The lines of all rows, in their order (in the first process)."""
        return map(self._line, self._order)

    def finish(self, *, limited: bool = False, aside: Path | None = None) -> int:
        """Puts the file in the order of the rows.

        Lines that no row has any more are dropped where another line replaces them: the
        same content, id or line of the input. The others are kept at the end.

        Args:
            limited: there are rows beyond the last one, whose lines are kept.
            aside: a file that the kept lines are appended to instead.

        Returns:
            How many lines were kept (in the first process).

        Raises:
            ValueError: a row has no result.
        """
        if self._order.count(-1):
            raise ValueError(f"{self._order.count(-1)} rows got no result; start again.")
        kept: list[int] = []
        if is_first():
            kept = self._left_over(limited, aside)
            self._files.put_in_order(self._order, kept, aside)
        share()
        return len(kept)

    def _open(self) -> list[int]:
        """Reads what is there, and opens the file to append to; the digests that are done."""
        self._files.open(lambda position, raw: self._note(position, self._digest(raw)))
        return list(self._done)

    def _digest(self, raw: bytes) -> int | None:
        line = json.loads(raw)
        if not isinstance(line, dict):
            raise ValueError("it is no object")
        if "error" in line and "digest" not in line:
            return _hash(raw)  # a row that was no Example: the same line will be written again
        digest = self._form.digest(line)
        return None if digest is None or line.get("passing") else int(digest, 16)

    def _note(self, position: int, digest: int | None) -> None:
        if digest is not None and self._done.setdefault(digest, position) != position:
            self._further.setdefault(digest, []).append(position)

    def _put_bad(self, index: int, row: Any) -> None:
        line = plain(self._form.bad(row))
        key = _hash(json_line(line).encode())
        if key in self._done:
            self._have(index, self._done[key], line)
        else:
            self._append(index, line, key)

    def _put_again(self, index: int, row: Example) -> None:
        """Finds the line of a row whose content is done, or writes it from that of another row."""
        digest = int(row.digest, 16)
        wanted: Line = {}
        for position in (self._done[digest], *self._further.get(digest, ())):
            if not is_first():
                return self._have(index, position, wanted)
            line = self._line(position)
            wanted = plain(self._form.again(line, row))
            if wanted == line:
                return self._have(index, position, wanted)
        return self._append(index, wanted, digest)

    def _append(self, index: int, line: Line, key: int) -> None:
        position = self._files.append(json_line(line).encode()) if is_first() else 0
        self._note(position, None if line.get("passing") else key)
        self._have(index, position, line)

    def _have(self, index: int, position: int, line: Line) -> None:
        self._order[index] = position
        self._on_line(line)

    def _line(self, position: int) -> Line:
        return json.loads(self._files.read(position))

    def _left_over(self, limited: bool, aside: Path | None) -> list[int]:
        """Positions of the lines that no row has, and that no other line replaces."""
        unused = list(self._files.besides(self._order, aside))
        if not unused:
            return []
        names: set[str] = set()
        last: dict[Any, int] = {}
        for line in self.lines():
            names.update(_names(line))
            last[line.get("path")] = max(last.get(line.get("path"), 0), line.get("line") or 0)
        kept: dict[str, int] = {}
        for position in unused:
            line = self._line(position)
            beyond = limited and (line.get("line") or 0) > last.get(line.get("path"), 0)
            if not line.get("passing") and (beyond or not _replaced(line, names)):
                kept[json.dumps([line["id"], line.get("path"), line.get("line")])] = position
        return list(kept.values())


def _names(line: Line) -> list[str]:
    """What a line stands for: an id, a content, a line of the input."""
    names = [f"id {json.dumps(line['id'])}", f"where {line.get('path')} {line.get('line')}"]
    return names + ([f"content {line['digest']}"] if "digest" in line else [])


def _replaced(line: Line, names: set[str]) -> bool:
    """Whether there is another line for the content or the id, or where it has no id of its own
    (but a hash, or a file's name and a line) for the line of the input."""
    name, where, *content = _names(line)
    own = line.get("digest", line["id"]) != line["id"]
    return not names.isdisjoint([name, *content, *([] if own else [where])])


def _hash(raw: bytes) -> int:
    return int.from_bytes(blake2b(raw, digest_size=8).digest())
