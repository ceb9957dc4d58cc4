"""What a sampler is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

Tag = TypeVar("Tag")  # whatever the caller knows its request by
NO_TAG: Any = None


@dataclass(frozen=True)
class Request(Generic[Tag]):
    """Draw samples number `samples` of the prompt `tokens` for random stream `item` (uint32).

    `tag` is the caller's, and comes back with every completion.
    """

    tokens: Sequence[int]
    item: int
    samples: tuple[int, ...]
    tag: Tag = NO_TAG


@dataclass(frozen=True)
class Completion(Generic[Tag]):
    """One sample: its tokens (stop token included), their log-probabilities, and whether it
    stopped by itself (False: cut off by the length limit)."""

    request: Request[Tag]
    sample: int
    tokens: np.ndarray
    logprobs: np.ndarray
    finished: bool
