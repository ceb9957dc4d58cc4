"""Which rows are read and how they become batches, in settings; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass, field

from grm_jax.data.synthetic import Noise, Principles

WORLD, CHOICES, CRITIQUES = "world", "choices", "critiques"


ANSWERS, COMPARISONS = "answers", "comparisons"


@dataclass(frozen=True)
class SourceConfig:
    """Where demonstrations come from.

    Args:
        source: "world", the synthetic world's training items with critiques; "choices", the same
            for an LLM-as-a-Judge, each critique with the number of the best response at its end;
            "critiques", critiques of one of its responses alone, without a score (CLoud's);
            "answers", its training questions with worked answers and nothing to judge (its general
            instruction data); "comparisons", answers held against other answers, and no more; or
            the path of a JSONL file with rows {prompt, completion} or {messages}.
        weight: its share of the mix, relative to the other sources.
        noise: how often the world's demonstrations go wrong; only for the first three.
        principles, reference: what the world's prompts show besides, see `World`; only for "world"
            and "choices".
        templates: prompt templates for these demonstrations, by default those of the run; likewise.

    Raises:
        ValueError: a weight that is not positive, or for another source what only the world has.
    """

    source: str = WORLD
    weight: float = 1.0
    noise: Noise = field(default_factory=Noise)
    principles: Principles = "own"
    reference: bool = False
    templates: str | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"weight is {self.weight}; it must be more than 0.")
        for name, value, default in (
            ("noise", self.noise, Noise()),
            ("principles", self.principles, "own"),
            ("reference", self.reference, False),
            ("templates", self.templates, None),
        ):
            shows = (WORLD, CHOICES, CRITIQUES) if name == "noise" else (WORLD, CHOICES)
            if self.source not in shows and value != default:
                raise ValueError(f"{name} is set for {self.source}, but only the world has it.")


@dataclass(frozen=True)
class ItemsConfig:
    """Where items come from.

    Args:
        source: "world", the synthetic world; or a file, a folder or a hub id of labelled rows.
        split: "train" or "heldout" of the world; the split of a folder or hub data set.
        name: the configuration, of a hub data set that has several; in a folder a folder.
        data_dir: the folder of a hub data set, or of a local copy, in which the rows lie.
        start: how many labelled items to pass over.
        limit: how many to take at most; the world has no end and needs a limit.

    Raises:
        ValueError: a number out of its range, a world without a limit or of no such split.
    """

    source: str = WORLD
    split: str | None = None
    name: str | None = None
    data_dir: str | None = None
    start: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.limit is not None and self.limit < 1):
            raise ValueError(
                f"start is {self.start} and limit is {self.limit}: give 0 or more items to pass "
                "over, and 1 or more to take."
            )
        if self.source != WORLD:
            return
        if self.limit is None:
            raise ValueError("the world has no end: give limit, the number of items to take.")
        if self.split not in (None, "train", "heldout"):
            raise ValueError(f"split is {self.split}; the world has train and heldout.")
        if self.name is not None or self.data_dir is not None:
            raise ValueError("name and data_dir are for data sets, and the world is none.")

    def __str__(self) -> str:
        parts = {"name": self.name, "data_dir": self.data_dir, "split": self.split}
        given = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
        return f"{self.source} ({given})" if given else self.source


@dataclass(frozen=True)
class BatchConfig:
    """The shape of a batch: `sequences` x `length` tokens; `pack` fills a sequence with
    several examples.

    Raises:
        ValueError: a size that is not positive.
    """

    sequences: int = 32
    length: int = 256
    pack: bool = True

    def __post_init__(self) -> None:
        for name, size in (("sequences", self.sequences), ("length", self.length)):
            if size < 1:
                raise ValueError(f"batch.{name} is {size}; give 1 or more.")
