"""Labelled items to train and measure judges on: the world's, or the rows of files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from grm_jax.data.demonstrations import WORLD
from grm_jax.data.sources import BadRow, load_examples
from grm_jax.data.synthetic import Split, World
from grm_jax.text.messages import Example


@dataclass(frozen=True)
class ItemsConfig:
    """Where items come from.

    Args:
        rows: "world", the synthetic world; or a file, a folder or a hub id of labelled rows.
        split: "train" or "heldout" of the world; the split of a folder or hub data set.
        start: how many labelled items to pass over.
        limit: how many to take at most; the world has no end and needs a limit.

    Raises:
        ValueError: a number out of its range, a world without a limit or of no such split.
    """

    rows: str = WORLD
    split: str | None = None
    start: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.limit is not None and self.limit < 1):
            raise ValueError(
                f"start is {self.start} and limit is {self.limit}: give 0 or more items to pass "
                "over, and 1 or more to take."
            )
        if self.rows == WORLD and self.limit is None:
            raise ValueError("the world has no end: give limit, the number of items to take.")
        if self.rows == WORLD and self.split not in (None, "train", "heldout"):
            raise ValueError(f"split is {self.split}; the world has train and heldout.")


def load_items(configs: tuple[ItemsConfig, ...], seed: int) -> list[Example]:
    """All items, each with a label; rows without one, or that cannot be read, are told and left.

    Raises:
        ValueError: two items have one id, or there are none.
    """
    found: dict[str, Example] = {}
    for config in configs:
        unlabelled = 0
        for example in _world(config, seed) if config.rows == WORLD else _rows(config):
            if example.label is None:
                unlabelled += 1
            elif example.id in found and found[example.id].responses != example.responses:
                raise ValueError(
                    f"two items have the id {example.id}: an item's randomness and its result are "
                    "found by its id, so give each its own."
                )
            else:
                found[example.id] = example
        if unlabelled:
            print(f"{config.rows}: {unlabelled} rows have no label and are left.", file=sys.stderr)
    if not found:
        raise ValueError(f"there are no labelled items in {', '.join(c.rows for c in configs)}.")
    return list(found.values())


def _world(config: ItemsConfig, seed: int) -> Iterator[Example]:
    split: Split = "heldout" if config.split == "heldout" else "train"
    world = World(seed=seed, split=split, start=config.start, count=config.limit or 1)
    for index in range(len(world)):
        # Its number is its name: two questions may be drawn alike, and each is an item.
        yield replace(world.item(index).example, id=f"{split}-{seed}-{config.start + index}")


def _rows(config: ItemsConfig) -> Iterator[Example]:
    rows = []
    for row in load_examples(config.rows, split=config.split):
        if isinstance(row, BadRow):
            print(row, file=sys.stderr)
        else:
            rows.append(row)
        if config.limit is not None and len(rows) == config.start + config.limit:
            break
    return islice(rows, config.start, None)
