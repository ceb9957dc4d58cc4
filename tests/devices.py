"""One device for a run, where conftest makes eight."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest


@contextmanager
def one_device() -> Iterator[None]:
    """A run in it sees the first device alone: programs for eight compile and run slowly."""
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: first)
        patch.setattr(jax, "device_count", lambda: 1)
        yield
