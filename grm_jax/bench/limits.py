"""What this machine can do: bytes and operations per second, by the plainest programs there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

REPEATS = 5
# Bytes of the array, side of the matrix, and calls that are timed together, so that waiting for
# the device counts for little. An accelerator's caches hold tens of MB, as a processor's do.
LARGE = {"cpu": (2**28, 2048, 2), "other": (2**31, 8192, 10)}


@dataclass(frozen=True)
class Limits:
    """bandwidth: bytes per second from and to memory. flops: operations per second of a matrix
    product, two per multiply-add."""

    bandwidth: float
    flops: float


def measure_limits(dtype: str, large: tuple[int, int, int] | None = None) -> Limits:
    """The limits of the first device, of its arithmetic for matrices of this dtype; the median of
    several runs.

    Args:
        large: bytes, side and calls, see LARGE; by default what suits the device.
    """
    size, side, calls = large or LARGE.get(jax.default_backend(), LARGE["other"])
    # In place: fresh memory would be timed as well, page by page.
    scale = jax.jit(lambda x: x * 0.5 + 1, donate_argnums=0)
    multiply = jax.jit(lambda x, y: x @ y)
    array = scale(jnp.ones(size // 4, jnp.float32))
    matrix = jnp.full((side, side), 1 / side, dtype)
    through_memory = _seconds(lambda x: scale(x), array, calls)
    multiplied = _seconds(lambda x: multiply(x, matrix), matrix, calls)
    return Limits(2 * size / through_memory, 2 * side**3 / multiplied)


def _seconds(call: Callable[[Any], Any], x: Any, calls: int) -> float:
    """The median time of x = call(x)."""
    x = jax.block_until_ready(call(x))  # compiles
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(calls):
            x = call(x)
        jax.block_until_ready(x)
        times.append((time.perf_counter() - start) / calls)
    return sorted(times)[REPEATS // 2]
