"""Settings of `grm data real`; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grm_jax.data.config import WORLD, ItemsConfig

# Licences under which texts may be changed and passed on with no more than a notice.
LICENCES = ("MIT", "Apache-2.0")


@dataclass(frozen=True)
class RealSource:
    """Rows to make items of.

    Args:
        source: a file, a folder or a hub id.
        licence: the licence of the rows: MIT or Apache-2.0.
        holds: "preferences", labelled or scored responses to a prompt; "answers", one response to
            a prompt, which counts as good; "problems", questions with a number as the answer, and a
            solution or labelled solutions.
        split: the split of a folder or hub data set.
        name: the configuration, of a hub data set that has several.
        data_dir: the folder of a data set in which the rows lie.
        limit: how many rows to read at most.

    Raises:
        ValueError: another licence, or no rows of their own.
    """

    source: str
    licence: str
    holds: Literal["preferences", "answers", "problems"] = "preferences"
    split: str | None = None
    name: str | None = None
    data_dir: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.licence not in LICENCES:
            raise ValueError(
                f"the licence of {self.source} is given as {self.licence!r}; only rows under "
                f"{' or '.join(LICENCES)} are used, since the items are changed copies of them."
            )
        if self.source == WORLD:
            raise ValueError("the small world is no real text: name a file or a data set.")
        self.rows()

    def rows(self) -> ItemsConfig:
        """Where the rows are."""
        return ItemsConfig(self.source, self.split, self.name, self.data_dir, limit=self.limit)


@dataclass(frozen=True)
class RealDataConfig:
    """Items of real text whose label is sure, and demonstrations of judging them.

    A fault that can be checked is put into real responses: cut off, off topic, a number changed, a
    constraint broken, and others. Writes train.jsonl and heldout.jsonl, labelled rows;
    demonstrations.jsonl and drills.jsonl, chats for `grm train sft` about items and about single
    sentences; manifest.json, with licences, counts and what surface features alone reach;
    README.md. The same settings and rows give the same bytes.

    Args:
        sources: where the real text comes from, a list of {source, licence, holds, split, name,
            data_dir, limit}.
        output: the folder.
        templates: the prompts of the demonstrations, a folder or the name of a bundled one.
        per_prompt: items made of one prompt in a round, at most, each with another kind of fault.
        per_kind: items of one kind in each split and round, at most; 0 is no limit.
        rounds: how often the train side is gone through, each time with other faults in other
            places, and other drills.
        longest: characters of a prompt and its responses together, at most.
        heldout: the share of prompts that are held out.
        seed: of all that is drawn.

    Raises:
        ValueError: a number out of its range, or no source.
    """

    sources: tuple[RealSource, ...]
    output: str = "runs/real_data"
    templates: str = "short"
    per_prompt: int = 6
    per_kind: int = 1500
    rounds: int = 1
    longest: int = 1800
    heldout: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty: name at least one file or data set.")
        least = {"per_prompt": 1, "per_kind": 0, "rounds": 1, "longest": 200, "seed": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least {limit}.")
        if not 0 < self.heldout < 1:
            raise ValueError(f"heldout is {self.heldout}; it is a share: more than 0, less than 1.")
