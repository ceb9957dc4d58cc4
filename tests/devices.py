"""One device for a run, or a few, where conftest makes eight."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import jax
import pytest


@contextmanager
def few_devices(count: int) -> Iterator[None]:
    """A run in it sees the first ones alone: programs for eight compile and run slowly."""
    first = jax.devices()[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: first)
        patch.setattr(jax, "device_count", lambda: count)
        yield


def one_device() -> AbstractContextManager[None]:
    """A run in it sees the first device alone."""
    return few_devices(1)
