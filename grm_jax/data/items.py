"""Labelled items to train and measure judges on: the world's, or the rows of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from grm_jax.data.config import WORLD, ItemsConfig
from grm_jax.data.sources import BadRow, Source, load_examples
from grm_jax.data.synthetic import Split, World
from grm_jax.processes import say
from grm_jax.text.degenerate import degeneracy
from grm_jax.text.messages import Example

SHOWN = 3  # of the rows that cannot be read, so many are shown with the reason
# The split that a row names for itself, as HelpSteer2's do; other words may mean anything.
OWN_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
NO_LABEL, UNREADABLE, OTHER_SPLIT = "without a label", "that cannot be read", "of another split"
BLANK = "whose best response is empty"
AGAIN, CONTRARY = "that came before", "that came before with another label"


def load_items(configs: tuple[ItemsConfig, ...], seed: int) -> list[Example]:
    """All items, each with a label and an id of its own.

    A row of other content under an id that came before gets # and eight digits of the hash of its
    content. What shows the same as a row before is left out, as are rows without a label and those
    that cannot be read; how many, and why, is said.

    Raises:
        ValueError: there are no labelled items in one of the sources, and why.
    """
    items = _Items()
    for config in configs:
        left: Counter[str] = Counter()
        before, labelled = len(items.found), 0
        drawn = config.source == WORLD
        for example in _world(config, seed) if drawn else _labelled(config, left):
            labelled += 1
            items.add(example, drawn, left)
        reasons = ", ".join(f"{count} {reason}" for reason, count in left.items())
        if not labelled:
            why = f" (left out: {reasons})" if left else ""
            raise ValueError(f"there are no labelled items in {config}{why}.")
        if left:
            say(f"{config}: {len(items.found) - before} items; rows left out: {reasons}.")
    return list(items.found.values())


class _Items:
    """Items by id, and the labels of what they show."""

    def __init__(self) -> None:
        self.found: dict[str, Example] = {}
        self._labels: dict[str, int | None] = {}

    def add(self, example: Example, drawn: bool, left: Counter[str]) -> None:
        """Takes the example, or counts it as left out.

        drawn: by the world, which may draw a question twice; its number is its name, and each is
        an item.
        """
        key = example.id if drawn else example.digest
        if key in self._labels:
            left[AGAIN if self._labels[key] == example.label else CONTRARY] += 1
            return
        self._labels[key] = example.label
        digest = example.digest
        names = (example.id, f"{example.id}#{digest[:8]}", f"{example.id}#{digest}")
        name = next(name for name in names if name not in self.found)
        self.found[name] = example if name == example.id else replace(example, id=name)


def _world(config: ItemsConfig, seed: int) -> Iterator[Example]:
    split: Split = "heldout" if config.split == "heldout" else "train"
    world = World(seed=seed, split=split, start=config.start, count=config.limit or 1)
    for index in range(len(world)):
        yield replace(world.item(index).example, id=f"{split}-{seed}-{config.start + index}")


def _labelled(config: ItemsConfig, left: Counter[str]) -> Iterator[Example]:
    """The labelled rows from `start` on, `limit` at most; counts the others that it meets."""
    stop = None if config.limit is None else config.start + config.limit
    source = load_examples(
        config.source, split=config.split, name=config.name, data_dir=config.data_dir
    )
    say(source.mapping)
    return islice(_usable(source, config.split, left), config.start, stop)


def _usable(source: Source, split: str | None, left: Counter[str]) -> Iterator[Example]:
    """The labelled rows of the split; counts the others, and shows some that cannot be read."""
    for row in source:
        if isinstance(row, BadRow):
            left[UNREADABLE] += 1
            if left[UNREADABLE] <= SHOWN:
                say(str(row))
        elif _is_of_another(split, row):
            left[OTHER_SPLIT] += 1
        elif row.label is None:
            left[NO_LABEL] += 1
        elif _best_is_blank(row):
            left[BLANK] += 1
        else:
            yield row


def _best_is_blank(row: Example) -> bool:
    """Whether it would teach that nothing is a good response. A benchmark that has it is judged."""
    if row.n == 1:
        return row.label == 1 and degeneracy(row.responses[0]) is not None
    return row.label is not None and degeneracy(row.responses[row.label]) is not None


def _is_of_another(split: str | None, row: Example) -> bool:
    own = OWN_SPLITS.get(str(row.meta.get("split")))
    return own is not None and own != OWN_SPLITS.get(split or "", own)
