"""How far a command is: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from tqdm import tqdm

EVERY = 30.0  # seconds between two lines where there is no terminal

T = TypeVar("T")


@contextmanager
def progress(
    name: str, unit: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Callable[[int], object]]:
    """Gives a function to call with how many more are done.

    Args:
        name: what is done. unit: one of what is counted.
        total: how many there are; None where nobody knows.
        shown: False in processes that print nothing.
    """
    if not shown:
        yield lambda count: None
    elif sys.stderr.isatty():
        with tqdm(total=total, desc=name, unit=unit, leave=False, dynamic_ncols=True) as bar:
            yield bar.update
    else:
        lines = _Lines(name, unit, total)
        try:
            yield lines.update
        finally:
            lines.close()


def counted(items: Sequence[T], name: str, unit: str) -> Iterator[T]:
    """The items, with the progress shown of whoever takes them."""
    with progress(name, unit, len(items)) as advance:
        for item in items:
            yield item
            advance(1)


class _Lines:
    """Whole lines, which a log keeps as they are. What is over before the first is due needs none.

    The speed is that since the line before: a continued run counts what was there in a moment.
    """

    def __init__(self, name: str, unit: str, total: int | None):
        self._name, self._unit, self._total = name, unit, total
        self._done = self._told = 0
        self._began = self._last = monotonic()

    def update(self, count: int) -> None:
        self._done += count
        if monotonic() - self._last >= EVERY:
            self._print()

    def close(self) -> None:
        if self._last != self._began and self._told != self._done:
            self._print()

    def _print(self) -> None:
        now = monotonic()
        line = tqdm.format_meter(
            self._done,
            self._total or 0,  # of 0 it shows no share
            now - self._began,
            ncols=0,
            prefix=self._name,
            unit=self._unit,
            rate=(self._done - self._told) / max(now - self._last, 1e-9),
        )
        self._told, self._last = self._done, now
        print(line, file=sys.stderr, flush=True)
