"""Rows of a benchmark from the hub or a local path, each assigned to a subset or rejected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from grm_jax.data.sources import BadRow, Source, load_examples
from grm_jax.places import at_hand, is_address
from grm_jax.text.messages import Example

Rows = Iterator[Example | BadRow]


def open_rows(
    path: str | None, hub: str, columns: Collection[str], split: str | None = None
) -> Source:
    """The rows at a path, or those of the data set `hub` if there is no path.

    The path may be a file, the data set's folder in the hub's layout, the parent of that folder (if
    it has the name of the hub id, with or without the owner, `__` for `/`), or another hub id.

    Raises:
        FileNotFoundError, ValueError: nothing is there, or the rows lack some of the columns.
    """
    where = locate(path, hub)
    source = load_examples(where, None if at_hand(where).is_file() else split)
    lacking = [column for column in columns if column not in source.columns]
    if lacking:
        has = ", ".join(source.columns[:12]) or "no rows with columns"
        raise ValueError(
            f"{where} lacks the columns {', '.join(lacking)} (it has {has}): "
            f"give the rows of {hub}, or a file with its columns"
        )
    return source


def locate(path: str | None, name: str) -> str:
    """The path, or the folder of the data set `name` inside it; without a path, the name."""
    if path is None:
        return name
    if is_address(path):
        return path
    inside = (Path(path) / name.replace("/", "__"), Path(path) / name.split("/")[-1])
    return next((str(folder) for folder in inside if folder.is_dir()), path)


def into_subsets(
    items: Iterable[Example | BadRow],
    subset_of: Callable[[Example], Any],
    subsets: Collection[str],
    why_not: Callable[[Example], str] = lambda example: "",
) -> Rows:
    """Each Example with meta["subset"], or a BadRow if that is not one of the subsets.

    why_not: a sentence on why the Example cannot be scored here, or nothing.
    """
    for item in items:
        if isinstance(item, BadRow):
            yield item
            continue
        subset = subset_of(item)
        if subset not in subsets:
            names = ", ".join(subsets)
            yield bad(item, f"its subset is {subset!r}, which is none of {names}")
        elif reason := why_not(item):
            yield bad(item, reason)
        else:
            yield put(item, subset=subset)


def no_single_best(example: Example) -> str:
    """Why a row cannot be scored by its best response, or nothing."""
    if example.n < 2:
        return "it has a single response: two or more are needed"
    if example.label is None:
        return "none of its responses is labelled best"
    return ""


def not_a_pair(example: Example) -> str:
    """Why a row is not a pair with a better response, or nothing."""
    return no_single_best(example) or (
        f"it has {example.n} responses: it should have two" if example.n != 2 else ""
    )


def put(example: Example, **meta: Any) -> Example:
    """The Example with more in its meta."""
    return replace(example, meta={**example.meta, **meta})


def bad(example: Example, reason: str) -> BadRow:
    """The BadRow for an Example that cannot be used."""
    meta = example.meta
    return BadRow(str(meta.get("path", "")), int(meta.get("line", 0)), reason, example.id)
