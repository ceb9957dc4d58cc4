"""Files of lines that make one: read back after a kill, appended to, put in order at the end."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from grm_jax.locks import lock, lock_of


class LineFiles:
    """A file that is appended to, and others that are only read. A position names a line of either.

    Memory holds a number for each line.

    Args:
        path: the file, in order once it is finished.
        part: where lines are appended until then; may be `path` itself.
        others: finished files whose lines count as well.
    """

    def __init__(self, path: Path, part: Path, others: Sequence[Path] = ()):
        self.path, self._part, self._paths = path, part, (part, *others)
        self._files: list[BinaryIO | None] = []
        self._starts: list[array] = []  # where the lines of each file begin
        self._end = 0
        self._stack = ExitStack()

    def open(self, note: Callable[[int, bytes], None]) -> None:
        """Calls `note` with the position and the bytes of every line; then lines can be appended.

        Raises:
            ValueError: `note` takes a line for none of ours, or another process has the file.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self._part != self.path:  # else it is an output, and held by its command
                lock(lock_of(self.path), self.path, self._stack)
            ends = [self._read_back(index, note) for index in range(len(self._paths))]
            file: BinaryIO = self._stack.enter_context(self._part.open("a+b"))
            file.truncate(ends[0])
            self._end = ends[0]
            self._files = [file]
            for path in self._paths[1:]:
                there = self._stack.enter_context(path.open("rb")) if path.exists() else None
                self._files.append(there)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stack.close()

    def append(self, raw: bytes) -> int:
        """Writes a line that survives a kill of the process; returns its position."""
        file = self._file(0)
        file.write(raw)
        file.flush()
        position = self._position(0, self._end)
        self._end += len(raw)
        return position

    def read(self, position: int) -> bytes:
        """The line at a position."""
        start, index = divmod(position, len(self._paths))
        file = self._file(index)
        file.seek(start)
        return file.readline()

    def besides(self, positions: Iterable[int], aside: Path | None) -> Iterator[int]:
        """The positions of all other lines, but for those of the file `aside`."""
        used, count = set(positions), len(self._paths)
        for index, starts in enumerate(self._starts):
            if self._paths[index] != aside:
                here = (start * count + index for start in starts)
                yield from (position for position in here if position not in used)

    def put_in_order(self, positions: Sequence[int], kept: list[int], aside: Path | None) -> None:
        """Leaves the file with these lines, and those that are kept at its end or in `aside`."""
        if aside is not None and kept:
            with aside.open("ab") as file:
                file.writelines(map(self.read, kept))
        wanted = [*positions, *([] if aside else kept)]
        finished = self._paths.index(self.path)
        there = [start * len(self._paths) + finished for start in self._starts[finished]]
        if wanted != there or not self.path.exists():
            ordered = self.path.with_name(f"{self.path.name}.ordered")
            with ordered.open("wb") as file:
                file.writelines(map(self.read, wanted))
            os.replace(ordered, self.path)
        self.close()
        if self._part != self.path:
            self._part.unlink()

    def _read_back(self, index: int, note: Callable[[int, bytes], None]) -> int:
        """Notes every whole line; returns where the last one ends, for a kill may have torn one."""
        path, start = self._paths[index], 0
        self._starts.append(array("q"))
        if not path.exists():
            return 0
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                try:
                    note(self._position(index, start), raw)
                except (ValueError, KeyError, TypeError) as error:
                    why = error.args[0] if type(error) is ValueError else "it is damaged"
                    raise ValueError(
                        f"{path}:{number} is no line of ours ({why}); name another output."
                    ) from None
                start += len(raw)
        return start

    def _position(self, index: int, start: int) -> int:
        self._starts[index].append(start)
        return start * len(self._paths) + index

    def _file(self, index: int) -> BinaryIO:
        file = self._files[index]
        assert file is not None
        return file
