"""How long a call takes, what the first one takes beyond that, and the memory of both."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import jax


@dataclass(frozen=True)
class Timing:
    """seconds of each repeat; compile_seconds: what the first call took beyond their median, which
    is tracing and compiling; peak_bytes: see `peak_bytes`."""

    seconds: tuple[float, ...]
    compile_seconds: float
    peak_bytes: int

    @property
    def median(self) -> float:
        """The median of the repeats, in seconds."""
        return median(self.seconds)


def time_calls(call: Callable[[], object], repeats: int) -> Timing:
    """Calls once for the compiler, then `repeats` times; `call` waits for its result itself."""
    reset_peak()
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    first, *rest = times
    return Timing(tuple(rest), max(first - median(rest), 0.0), peak_bytes())


def reset_peak() -> None:
    """Lets the kernel count this process's peak from here; an accelerator's is of the whole
    process."""
    with suppress(OSError):  # no Linux: the peak is the whole process's there too
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The peak of the device's memory where it counts that, else of this process's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
