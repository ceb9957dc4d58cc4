"""Principles and references in forms that have no field for them: ours are added.

One text for all rows of a request, or one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Texts = str | list[str | None] | None


def of_each(name: str, given: Texts, rows: int) -> Sequence[str | None]:
    """What a field gives for each row.

    Raises:
        ValueError: there are not as many texts as rows.
    """
    if given is None or isinstance(given, str):
        return [given] * rows
    if len(given) != rows:
        raise ValueError(
            f"{name} has {len(given)} entries, and there are {rows} rows: give one text for all of "
            "them, or one for each."
        )
    return given


def references(given: bool | Texts, labels: Sequence[Any]) -> Sequence[str | None]:
    """The references of a trainer's rows, as above; true: the labels that are text.

    Raises:
        ValueError: there are not as many texts as rows.
    """
    if isinstance(given, bool):
        return [label if given and isinstance(label, str) else None for label in labels]
    return of_each("reference", given, len(labels))


def either(**given: str | None) -> str | None:
    """What one of the names of a field gives.

    Raises:
        ValueError: several do.
    """
    said = [value for value in given.values() if value is not None]
    if len(said) > 1:
        raise ValueError(f"give only one of {' and '.join(given)}.")
    return said[0] if said else None
