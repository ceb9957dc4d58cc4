"""Files, folders and hub data sets as a stream of Examples and bad rows.

JSON lines are read line by line and tables page by page, so memory does not grow with the file,
except for two hashes of eight bytes per row, which are there to find ids that are used twice. JSON
is read whole.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from grm_jax.data.conversation import PLACES, prompt_column
from grm_jax.data.examples import id_text, own_id, read_row
from grm_jax.data.folders import files_of, inside
from grm_jax.data.formats import KNOWN, RowFile, piped, row_file
from grm_jax.data.hub import dataset_rows, hub_dataset, is_saved, saved_dataset
from grm_jax.paths import expanded
from grm_jax.places import at_hand, is_address, shown
from grm_jax.text.messages import Example, repair_surrogates

FIRST = 100  # rows from which it is worked out how a file is read


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used: where it is, why, and its id.

    line: from 1; in a text file the line where the row begins, in others the number of the row.
    id: the row's own, or else the file's name and the line. own_id: the id as the row has it.
    """

    path: str
    line: int
    reason: str
    id: str = ""
    own_id: int | float | str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def load_examples(
    path_or_hub_id: str | Path,
    split: str | None = None,
    *,
    name: str | None = None,
    data_dir: str | None = None,
) -> "Source":
    """The rows of a file, of the files in a folder, or of a data set on the hub; "-" is stdin.

    split, name (the configuration) and data_dir are those of `datasets.load_dataset`. A folder is
    read in the hub's layout: data_dir and name are folders inside it, and the name of a file begins
    with its split (see `folders`).
    What an address names, such as gs://bucket/rows.jsonl, is copied to this machine first.
    Raises FileNotFoundError or ValueError if there is nothing to read; the message says why.
    """
    if is_address(path_or_hub_id):
        copy = load_examples(at_hand(path_or_hub_id), split, name=name, data_dir=data_dir)
        return copy.shown()
    path = expanded(path_or_hub_id)
    local = path.exists() or str(path_or_hub_id) == "-"
    if not local and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path_or_hub_id)):
        raise FileNotFoundError(f"there is no file or folder at {path}")
    if not local and row_file(path):
        raise FileNotFoundError(f"there is no file at {path}")
    if not local:
        dataset = hub_dataset(str(path_or_hub_id), split, name, data_dir)
        return Source(str(path_or_hub_id), dataset=dataset)
    if name or data_dir:
        path = inside(path, data_dir or "", name or "")
    if path.is_dir():
        if is_saved(path):
            return Source(str(path), dataset=saved_dataset(path, split))
        files, left_out = files_of(path, split)
        return Source(str(path), files, left_out=left_out)
    if split:
        raise ValueError(f"split {split!r} is for folders and the hub, and {path} is one file")
    if path.is_file() and (file := row_file(path)):
        return Source(str(path), (file,))
    if path.is_file() and path.parts[:2] not in (("/", "dev"), ("/", "proc")):
        raise ValueError(f"{path} is not a kind of file that is read; those are {KNOWN}")
    file = piped(str(path))
    return Source(file.name, (file,))


class Source:
    """Examples and BadRows, in the order of the rows. It can be iterated any number of times.

    A row without an id is named by a hash of its content. If an id is used again, a row with other
    content gets # and eight digits of its hash appended; a repeated row gets #2, #3 and so on.
    mapping: a sentence on how the columns are read, worked out from the first rows.
    """

    def __init__(
        self,
        where: str,
        files: tuple[RowFile, ...] = (),
        *,
        dataset: Any = None,
        left_out: str = "",
    ):
        self.where = where
        self._files = files
        self._dataset = dataset
        self._left_out = left_out

    def shown(self) -> "Source":
        """The same rows, but named by the address that their files are a copy of."""
        files = tuple(replace(file, name=shown(file.name)) for file in self._files)
        return Source(shown(self.where), files, dataset=self._dataset, left_out=self._left_out)

    def __iter__(self) -> Iterator[Example | BadRow]:
        names = _Names()
        for path, line, row in self._rows():
            yield names.with_own_id(_read(path, line, row))

    @cached_property
    def mapping(self) -> str:
        """How the columns are read, and which of them the judge is not shown, in one sentence."""
        parts = [part for part in (self._mapping(), self._left_out) if part]
        return f"{self.where}: {'; '.join(parts)}."

    def _mapping(self) -> str:
        first, says, why_not = None, "", ""
        shown: dict[str, None] = {}
        unshown: dict[str, None] = {}
        for _, _, row in islice(self._rows(), FIRST):
            try:
                reading = read_row(row)
                reading.example("", 0)
            except ValueError as error:
                why_not = why_not or str(error)
                continue
            if first is None:
                prompt = prompt_column(reading.row) or "the turns that chosen and rejected share"
                first, says = reading, f"read with the prompt from {prompt}; {reading.says}"
            shown |= dict.fromkeys(reading.before)
            unshown |= dict.fromkeys(reading.unshown)
        if first is None:
            return f"no row can be read; the first one: {why_not}" if why_not else "no rows"
        parts = [says, *(f"{name} is shown {PLACES[name]}" for name in shown)]
        if unshown:
            names = list(unshown)
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            parts.append(f"not shown to the judge: {', '.join(names[:12])}{more}")
        return "; ".join(parts)

    def count(self) -> int | None:
        """How many rows there are; None if only reading them would tell."""
        if self._dataset is not None:
            return len(self._dataset)
        counts = [file.count() for file in self._files]
        return None if None in counts else sum(filter(None, counts))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the first row that has any; empty if none of the first 100 rows has."""
        rows = (row for _, _, row in islice(self._rows(), FIRST) if isinstance(row, Mapping))
        return next((tuple(map(str, row)) for row in rows if row), ())

    def raw(self) -> Iterator[tuple[str, int, Any]]:
        """(path, line, row) of each row as it is in the source, for rows that are not Examples; a
        row that could not be decoded is a ValueError."""
        return self._rows()

    def _rows(self) -> Iterator[tuple[str, int, Any]]:
        """(path, line, row) of each row; a row that could not be decoded is a ValueError."""
        if self._dataset is not None:
            for line, row in enumerate(dataset_rows(self._dataset), 1):
                yield self.where, line, row
        for file in self._files:
            for line, row in file.rows():
                yield repair_surrogates(file.name), line, row


def to_example(row: Any, path: str, line: int) -> Example:
    """The row as an Example. Raises a ValueError that says why it cannot be one.

    The id is the row's own if it has one; label, scores and the rest follow from its shape. Columns
    that are not used are kept in meta, with path and line.
    """
    return read_row(row).example(path, line)


def _read(path: str, line: int, row: Any) -> Example | BadRow:
    try:
        return to_example(row, path, line)
    except ValueError as error:
        own = own_id(row) if isinstance(row, Mapping) else None
        reason = repair_surrogates(str(error))
        return BadRow(path, line, reason, id_text(own) or f"{Path(path).name}:{line}", own)


class _Names:
    """Gives each item an id of its own: see `Source`."""

    def __init__(self) -> None:
        self._named: dict[bytes, bytes] = {}  # hashes of an id, and of the content that has it
        self._count: dict[bytes, int] = {}  # of ids that came again

    def with_own_id(self, item: Example | BadRow) -> Example | BadRow:
        content = _hash(item.digest if isinstance(item, Example) else item.reason)
        name = item.id
        if self._named.get(_hash(name), content) != content:
            name = f"{name}#{content.hex()[:8]}"
        again, first = name, _hash(name)
        while _hash(name) in self._named:
            self._count[first] = self._count.get(first, 1) + 1
            name = f"{again}#{self._count[first]}"
        self._named[_hash(name)] = content
        return item if name == item.id else replace(item, id=name)


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()
