"""One setting of the C library that makes training on a CPU about a third cheaper."""

from __future__ import annotations

import ctypes
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

import jax

# glibc's malloc.h: trim threshold, top pad, how many blocks may be mapped, how many arenas.
SETTINGS = {-1: 2**31 - 1, -2: 2**28, -4: 0, -8: 1}


def keep_freed_memory() -> bool:
    """Lets malloc keep what XLA frees after each step, if JAX will run on a CPU.

    A step's temporaries are a few hundred MB, which glibc maps afresh for every step, and whose
    pages the kernel then zeroes one by one: 36% of the time of the tiny model's update. To be
    called before JAX starts its backend, whose threads keep the arenas that they have.

    Returns:
        Whether it was done: not beside accelerators, and not where there is no glibc.
    """
    platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
    elsewhere = bool(entry_points(group="jax_plugins")) or find_spec("libtpu") is not None
    if (platforms != "cpu" if platforms else elsewhere) or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = [mallopt(name, value) for name, value in SETTINGS.items()]  # each, also after a failure
    return all(done)
