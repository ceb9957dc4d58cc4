"""What is pending: owners, such as Examples, whose parts come back one by one and in any order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from grm_jax.judging.judgment import Refusal, Sampled, identity
from grm_jax.judging.samples import SampleSource
from grm_jax.text.messages import Example

Owner = TypeVar("Owner")
Key = TypeVar("Key")
Part = TypeVar("Part")


@dataclass
class Pending(Generic[Owner, Key, Part]):
    """An owner, the keys of its parts, and the parts that are there."""

    owner: Owner
    keys: tuple[Key, ...]
    parts: dict[Key, Part] = field(default_factory=dict)

    def add(self, key: Key, part: Part) -> bool:
        """Takes a part; says whether it was the last one."""
        self.parts[key] = part
        return self.complete

    @property
    def complete(self) -> bool:
        return len(self.parts) == len(self.keys)

    def in_order(self) -> tuple[Part, ...]:
        """All parts, in the order of the keys."""
        return tuple(self.parts[key] for key in self.keys)


def gather(
    parts: Iterable[tuple[Pending[Owner, Key, Part], Key, Part]], refused: deque[Refusal]
) -> Iterator[Pending[Owner, Key, Part] | Refusal]:
    """Each owner with its last part, and what was refused on the way to a part, once it is."""
    for pending, key, part in parts:
        while refused:
            yield refused.popleft()
        if pending.add(key, part):
            yield pending
    yield from refused


def sample_parts(
    source: SampleSource,
    examples: Iterable[Example],
    k: int,
    split: Callable[[Example], Mapping[Key, Example]],
) -> Iterator[tuple[Pending[Example, Key, Sampled | Refusal], Key]]:
    """Has a source judge the parts of each Example, which `split` cuts it into, under other ids.

    Yields the Example with what there is of it whenever a part is done, and the key of that part.
    """
    waiting: dict[str, tuple[Pending[Example, Key, Sampled | Refusal], Key]] = {}

    def shown() -> Iterator[Example]:
        for example in examples:
            parts = split(example)
            pending = Pending[Example, Key, Sampled | Refusal](example, tuple(parts))
            waiting.update({part.id: (pending, key) for key, part in parts.items()})
            yield from parts.values()

    for result in source.sample_all(shown(), k):
        pending, key = waiting.pop(identity(result))
        pending.add(key, result)
        yield pending, key
