"""Files, folders and hub data sets as a stream of Examples, with the bad rows told apart.

JSON lines are read line by line and Parquet page by page, so that memory does not grow with the
file (but for a hash of eight bytes per row, by which equal ids are told apart). JSON is read whole.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from grm_jax.data.rows import principles_in, prompt_column, shape_of, text_in
from grm_jax.text.messages import Example, kind, repair_surrogates

IDS = ("id", "uid", "uuid", "bon_uid", "pair_uid", "question_id", "prompt_id", "unique_id",
       "pair_id")  # fmt: skip
SPLIT = re.compile(r"(train|test|dev|val|valid|validation|eval)[-._]")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used: where it is, why, and what to call it.

    line: 1-based; of a text file the line on which the row begins, of others the row's number.
    id: the row's own, or else the file's name and the line.
    """

    path: str
    line: int
    reason: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def load_examples(
    path_or_hub_id: str | Path,
    split: str | None = None,
    *,
    name: str | None = None,
    data_dir: str | None = None,
) -> "Source":
    """The rows of a file, of the files in a folder, or of a data set on the hub.

    split, name (the configuration) and data_dir are those of `datasets.load_dataset`; a folder is
    taken for one in the hub's layout, where data_dir and name are folders inside it and a file's
    name begins with its split (see `_of_split`).
    Raises FileNotFoundError or ValueError with a sentence where there is nothing to read.
    """
    path = Path(path_or_hub_id)
    local = path.exists()
    if not local and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path_or_hub_id)):
        raise FileNotFoundError(f"there is no file or folder at {path}")
    if path.suffix in SUFFIXES and not local:
        raise FileNotFoundError(f"there is no file at {path}")
    if not local:
        return Source(str(path_or_hub_id), dataset=_hub(str(path), split, name, data_dir))
    if name or data_dir:
        path = _inside(path, data_dir or "", name or "")
    return Source(str(path), files=_files(path, split))


class Source:
    """Examples and BadRows, in the order of the rows. It can be iterated any number of times.

    A row without an id gets a hash of its content, and an id that came before gets #2, #3, ...
    mapping: one sentence on how the columns are read, taken from the first row that can be.
    """

    def __init__(self, where: str, files: tuple[Path, ...] = (), dataset: Any = ()):
        self.where = where
        self._files = files
        self._dataset = dataset

    def __iter__(self) -> Iterator[Example | BadRow]:
        seen: dict[bytes, int] = {}
        for path, line, row in self._rows():
            item = _read(path, line, row)
            name = _unused(item.id, seen)
            yield item if name == item.id else replace(item, id=name)

    @cached_property
    def mapping(self) -> str:
        """How the columns are read, in one sentence: that of the first row that fits a shape."""
        for _, _, row in islice(self._rows(), 100):
            try:
                says = shape_of(row).says if isinstance(row, Mapping) else ""
            except ValueError:
                continue
            if says:
                prompt = prompt_column(row) or "the turns that chosen and rejected share"
                return f"{self.where}: read with the prompt from {prompt}; {says}."
        return f"{self.where}: no row has columns that are known."

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the first row that has any; empty where none of the first 100 has."""
        rows = (row for _, _, row in islice(self._rows(), 100) if isinstance(row, Mapping))
        return next((tuple(map(str, row)) for row in rows if row), ())

    def raw(self) -> Iterator[tuple[str, int, Any]]:
        """(path, line, row) of each row as it stands, for rows that are no Examples; a ValueError
        in the place of one that could not be decoded."""
        return self._rows()

    def _rows(self) -> Iterator[tuple[str, int, Any]]:
        """(path, line, row) of each row; the row is a ValueError where it could not be decoded."""
        for line, row in enumerate(self._dataset, 1):
            yield self.where, line, row
        for path in self._files:
            read = {".json": _json, ".parquet": _parquet}.get(path.suffix, _json_lines)
            for line, row in read(path):
                yield str(path), line, row


def to_example(row: Mapping[str, Any], path: str, line: int) -> Example:
    """The row as an Example. Raises ValueError with a sentence.

    The id is the row's own where it has one; label, scores and the rest are as the shape says;
    columns that no one asked for are kept in meta, with path and line.
    """
    if not isinstance(row, Mapping):
        raise ValueError(
            f"the row is {kind(row)}, not an object with named columns (a file that is one JSON "
            "array must be called .json)"
        )
    left = {str(name): value for name, value in row.items() if value is not None}
    shape = shape_of(left)
    identity = row_id(left)
    for name in IDS:
        left.pop(name, None)
    try:
        values = shape.read(left)
    except (TypeError, KeyError, AttributeError):
        raise ValueError(
            f"the columns {', '.join(shape.columns)} do not hold what they should: {shape.says}"
        ) from None
    values.setdefault("reference", text_in(left, "reference", "reference_answer"))
    values.setdefault("principles", principles_in(left))
    _refuse_empty(values["responses"], values.get("label"))
    meta = values.pop("meta", {}) | left | {"path": path, "line": line}
    return Example(id=identity, meta=meta, **values)


def row_id(row: Mapping[str, Any]) -> str:
    """The row's own id as text, or "" if it has none."""
    values = (row.get(name) for name in IDS)
    return next((str(value) for value in values if value not in (None, "")), "")


def _refuse_empty(responses: Any, label: int | None) -> None:
    """An empty response is judged like any other, but not as the best one, nor alone."""
    if not responses:
        raise ValueError("the row has no responses: at least one is needed")
    if not any(response.strip() for response in responses):
        what = "the response is" if len(responses) == 1 else f"all {len(responses)} responses are"
        raise ValueError(f"{what} empty: there is nothing to judge")
    if label is None or len(responses) == 1 or label not in range(len(responses)):
        return
    if not responses[label].strip():
        raise ValueError(
            f"response {label + 1} is labelled best and is empty: correct the label or the text"
        )


def _read(path: str, line: int, row: Any) -> Example | BadRow:
    own = row_id(row) if isinstance(row, Mapping) else ""
    try:
        if isinstance(row, ValueError):
            raise row
        return to_example(row, path, line)
    except ValueError as error:
        return BadRow(path, line, str(error), repair_surrogates(own) or f"{Path(path).name}:{line}")


def _unused(identity: str, seen: dict[bytes, int]) -> str:
    """The id, or the id with the first of #2, #3, ... that has not come before."""
    name = identity
    while (key := blake2b(name.encode(), digest_size=8).digest()) in seen:
        first = blake2b(identity.encode(), digest_size=8).digest()
        seen[first] += 1
        name = f"{identity}#{seen[first]}"
    seen[key] = 1
    return name


def _files(path: Path, split: str | None) -> tuple[Path, ...]:
    """The files to read. Raises ValueError with a sentence if there are none of a known kind."""
    known = ", ".join(SUFFIXES)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is none of the kinds of file that are read: {known}")
        if split:
            raise ValueError(f"split {split!r} is for folders and the hub, and {path} is one file")
        return (path,)
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    chosen = _of_split(found, split)
    if not chosen:
        which = f" whose name begins with {split!r}" if found else ""
        raise ValueError(f"{path} holds no file{which} of the kinds {known}")
    return chosen


def _inside(path: Path, *folders: str) -> Path:
    """The folder of a configuration or of data_dir in a data set's folder, as the hub has it."""
    if path.is_file():
        raise ValueError(f"name and data_dir are for folders and the hub, and {path} is one file")
    inside = path.joinpath(*folders)
    if not inside.is_dir():
        there = ", ".join(sorted(item.name for item in path.iterdir() if item.is_dir()))
        raise FileNotFoundError(
            f"there is no folder {inside}, where name and data_dir would have it; {path} holds "
            f"{there or 'no folders'}"
        )
    return inside


def _of_split(files: list[Path], split: str | None) -> tuple[Path, ...]:
    """The files of a split: those named by it alone (train.jsonl, train-00000-of-00001.parquet), or
    else those whose names begin with it. Where no file names any split, all are `train`."""
    if split is None:
        return tuple(files)
    named = [file for file in files if re.match(rf"{re.escape(split)}[-.]", file.name)]
    begun = named or [file for file in files if file.name.startswith(split)]
    unnamed = split == "train" and not any(SPLIT.match(file.name) for file in files)
    return tuple(files if not begun and unnamed else begun)


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            text = raw.removeprefix(b"\xef\xbb\xbf").strip() if line == 1 else raw.strip()
            if text:
                yield line, _decode(text)


def _decode(raw: bytes) -> Any:
    """The row in one line of JSON, or the ValueError that says why there is none."""
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError as error:
        return ValueError(f"byte {error.start + 1} is not UTF-8: save the file as UTF-8")
    except json.JSONDecodeError as error:
        return ValueError(
            f"this is not JSON ({error.msg} at character {error.pos + 1}): "
            "each line must hold one JSON object"
        )
    except (ValueError, RecursionError) as error:
        return ValueError(f"this JSON cannot be read: {error}")


def _json(path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a JSON array, or of objects one after another; stops at the first error."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        yield 1, ValueError(f"byte {error.start + 1} is not UTF-8: save the file as UTF-8")
        return
    decoder = json.JSONDecoder()
    start = _after_blank(text, 0)
    array = text[start : start + 1] == "["
    end, line = 0, 1
    start = _after_blank(text, start + array)
    while start < len(text) and not (array and text[start] == "]"):
        line += text.count("\n", end, start)
        try:
            row, stop = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            yield line, ValueError(f"this is not JSON ({why}): what follows it is not read")
            return
        yield line, row
        line += text.count("\n", start, stop)
        end, start = stop, _after_blank(text, stop)
    if array and start >= len(text):
        yield line, ValueError("the file ends before its array is closed: it may have been cut off")


def _after_blank(text: str, start: int) -> int:
    while start < len(text) and (text[start].isspace() or text[start] == ","):
        start += 1
    return start


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    # Here, because it is slow to import and only Parquet needs it.
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        yield number + 1, ValueError(f"this Parquet file cannot be read from here on: {reason}")


def _hub(hub_id: str, split: str | None, name: str | None, data_dir: str | None) -> Any:
    """The rows of a hub data set: downloaded once, then read from the cache, memory-mapped."""
    # Here, because it is slow to import; and in this file only.
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        found = datasets.load_dataset(hub_id, name, split=split, data_dir=data_dir)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"there is no file or folder {hub_id}, and the data set of that name on the hub could "
            f"not be had: {reason}"
        ) from None
    if not isinstance(found, Mapping):
        return found
    if len(found) > 1:
        raise ValueError(f"{hub_id} has the splits {', '.join(map(str, found))}: choose one")
    return next(iter(found.values()))
