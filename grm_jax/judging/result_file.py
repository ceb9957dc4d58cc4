"""Results of judging in a file of JSON lines, each found again by what it is the result of.

A row is done when there is a line for its content (`Example.digest`), whatever its id and place
are; lines that say something else of the row, such as an old label, are written anew from the same
result. Rows of the same content share one result and have a line each. Lines are appended while
rows are judged and put in the order of the rows at the end, so that a killed run goes on.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from grm_jax.judging.judgment import Refusal, Sampled, Verdict
from grm_jax.outputs import hold
from grm_jax.processes import from_first, is_first, wait
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
        path: the file, in the order of the rows once it is finished.
        part: where lines are appended until then; by default in `path` itself.
        others: finished files whose lines count as well.
        told: is called with each row's line when it has one.

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
        told: Callable[[Line], object] = lambda line: None,
    ):
        self.path, self._form, self._part, self._told = path, form, part or path, told
        self._paths = (self._part, *others)
        self._files: list[BinaryIO | None] = []
        self._places: dict[int, int] = {}  # by digest, of the first line with it
        self._further: dict[int, list[int]] = {}
        self._all: list[array] = []  # where the lines of each file begin
        self._order = array("q")  # the place of each row's line; -1 until it has one
        self._waiting: dict[str, list[tuple[int, Example]]] = {}  # by the id of the one asked
        self._asked: dict[str, str] = {}  # that id, by digest
        self._stack = ExitStack()
        found = from_first(self._open)
        if not is_first():
            self._places = dict.fromkeys(found, 0)
        self.found = len(found)

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def left(self, rows: Iterable[Example | Any]) -> Iterator[Example]:
        """The rows that are to be judged; when it comes to its end, the others have their lines."""
        for row in rows:
            index = len(self._order)
            self._order.append(-1)
            if not isinstance(row, Example):
                self._put_bad(index, row)
            elif row.digest in self._asked:
                self._waiting[self._asked[row.digest]].append((index, row))
            elif int(row.digest, 16) in self._places:
                self._put_again(index, row)
            else:
                # Results are told apart by id while they are under way.
                asked = replace(row, id=row.digest) if row.id in self._waiting else row
                self._asked[row.digest] = asked.id
                self._waiting[asked.id] = [(index, row)]
                yield asked

    def write(self, result: Result) -> int:
        """Writes the lines of all rows with this content, and says how many those are.

        What is written survives a kill of the process.
        """
        identity = result.example.id if isinstance(result, Sampled) else result.id
        rows = self._waiting.pop(identity)
        del self._asked[rows[0][1].digest]
        for index, row in rows:
            self._append(index, plain(self._form.fresh(result, row)), int(row.digest, 16))
        return len(rows)

    def lines(self) -> Iterator[Line]:
        """The lines of all rows, in their order (in the first process)."""
        return (json.loads(self._read(place)) for place in self._order)

    def finish(self, *, limited: bool = False, aside: Path | None = None) -> int:
        """Puts the file in the order of the rows.

        Lines that no row has any more are dropped where another line has taken their place: the
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
        kept = self._put_in_order(limited, aside) if is_first() else 0
        wait()
        return kept

    def _open(self) -> list[int]:
        """Reads what is there, and opens the file to append to; the digests that are done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._read_all()
        except BaseException:
            self._stack.close()
            raise

    def _read_all(self) -> list[int]:
        if self._part != self.path:  # else it is an output, and held by its command
            hold(self.path, self._stack)
        ends = [self._read_back(index, path) for index, path in enumerate(self._paths)]
        file = self._stack.enter_context(self._part.open("a+b"))
        file.truncate(ends[0])
        self._end = ends[0]
        self._files = [file]
        for path in self._paths[1:]:
            found = self._stack.enter_context(path.open("rb")) if path.exists() else None
            self._files.append(found)
        return list(self._places)

    def _read_back(self, index: int, path: Path) -> int:
        """Notes every whole line; returns where the last one ends, for a kill may have torn one."""
        self._all.append(array("q"))
        if not path.exists():
            return 0
        start = 0
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                try:
                    digest = self._digest(raw)
                except (ValueError, KeyError, TypeError) as error:
                    told = error.args[0] if type(error) is ValueError else "it is damaged"
                    raise ValueError(
                        f"{path}:{number} is no line of ours ({told}); name another output."
                    ) from None
                self._note(index, start, digest)
                start += len(raw)
        return start

    def _digest(self, raw: bytes) -> int | None:
        line = json.loads(raw)
        if not isinstance(line, dict):
            raise ValueError("it is no object")
        if "error" in line and "digest" not in line:
            return _hash(raw)  # a row that was no Example: the same line will be written again
        digest = self._form.digest(line)
        return None if digest is None or line.get("passing") else int(digest, 16)

    def _note(self, index: int, start: int, digest: int | None) -> int:
        place = start * len(self._paths) + index
        self._all[index].append(start)
        if digest is not None and self._places.setdefault(digest, place) != place:
            self._further.setdefault(digest, []).append(place)
        return place

    def _put_bad(self, index: int, row: Any) -> None:
        line = plain(self._form.bad(row))
        key = _hash(json_line(line).encode())
        if key in self._places:
            self._have(index, self._places[key], line)
        else:
            self._append(index, line, key)

    def _put_again(self, index: int, row: Example) -> None:
        """Finds the line of a row whose content is done, or writes it from that of another row."""
        digest = int(row.digest, 16)
        wanted: Line = {}
        for place in (self._places[digest], *self._further.get(digest, ())):
            if not is_first():
                return self._have(index, place, wanted)
            line = json.loads(self._read(place))
            wanted = plain(self._form.again(line, row))
            if wanted == line:
                return self._have(index, place, wanted)
        return self._append(index, wanted, digest)

    def _append(self, index: int, line: Line, key: int) -> None:
        place = 0
        if is_first():
            raw = json_line(line).encode()
            file = self._files[0]
            assert file is not None
            file.write(raw)
            file.flush()
            place = self._note(0, self._end, None if line.get("passing") else key)
            self._end += len(raw)
        elif not line.get("passing"):
            self._places[key] = 0
        self._have(index, place, line)

    def _have(self, index: int, place: int, line: Line) -> None:
        self._order[index] = place
        self._told(line)

    def _read(self, place: int) -> bytes:
        start, index = divmod(place, len(self._paths))
        file = self._files[index]
        assert file is not None
        file.seek(start)
        return file.readline()

    def _put_in_order(self, limited: bool, aside: Path | None) -> int:
        kept = self._left_over(limited, aside)
        if aside is not None and kept:
            with aside.open("ab") as file:
                file.writelines(map(self._read, kept))
        places = [*self._order, *([] if aside else kept)]
        finished = self._paths.index(self.path)
        there = [start * len(self._paths) + finished for start in self._all[finished]]
        if places != there or not self.path.exists():
            ordered = self.path.with_name(f"{self.path.name}.ordered")
            with ordered.open("wb") as file:
                file.writelines(map(self._read, places))
            os.replace(ordered, self.path)
        self._stack.close()
        if self._part != self.path:
            self._part.unlink()
        return len(kept)

    def _left_over(self, limited: bool, aside: Path | None) -> list[int]:
        """Places of the lines that no row has, and that none has taken the place of."""
        count, used = len(self._paths), set(self._order)
        unused = [
            place
            for index, starts in enumerate(self._all)
            for start in starts
            if (place := start * count + index) not in used and self._paths[index] != aside
        ]
        if not unused:
            return []
        names: set[str] = set()
        last: dict[Any, int] = {}
        for line in self.lines():
            names.update(_names(line))
            last[line.get("path")] = max(last.get(line.get("path"), 0), line.get("line") or 0)
        kept: dict[str, int] = {}
        for place in unused:
            line = json.loads(self._read(place))
            beyond = limited and (line.get("line") or 0) > last.get(line.get("path"), 0)
            if not line.get("passing") and (beyond or not _replaced(line, names)):
                kept[json.dumps([line["id"], line.get("path"), line.get("line")])] = place
        return list(kept.values())


def _names(line: Line) -> list[str]:
    """What a line stands for: an id, a content, a place in the input."""
    names = [f"id {json.dumps(line['id'])}", f"place {line.get('path')} {line.get('line')}"]
    return names + ([f"content {line['digest']}"] if "digest" in line else [])


def _replaced(line: Line, names: set[str]) -> bool:
    """Whether there is another line for the content or the id, or where it has no id of its own
    (but a hash, or a file's name and a line) for the place."""
    name, place, *content = _names(line)
    own = line.get("digest", line["id"]) != line["id"]
    return not names.isdisjoint([name, *content, *([] if own else [place])])


def _hash(raw: bytes) -> int:
    return int.from_bytes(blake2b(raw, digest_size=8).digest())
