"""The cost of a compiled program on each chip: memory, the least time, and what limits it."""

from __future__ import annotations

import re
import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import jax

from grm_jax.aot.chips import Chip
from grm_jax.aot.counts import Counts, count
from grm_jax.aot.topology import Topology
from grm_jax.aot.work import Program


@dataclass(frozen=True)
class Cost:
    """The cost of one run per device, in bytes, operations and seconds.

    Attributes:
        fits: whether `peak` and `resident` together fit into the chip's memory.
        arguments, output, temporaries, peak: bytes, as the compiler lays them out; an output that
            reuses the memory of an argument is not counted twice.
        resident: bytes of other arrays in memory (the frozen reference, the policy).
        hbm: bytes of memory per device.
        flops: of the compiled program. flops_analytic: what the model needs, shared evenly.
        moved: bytes from and to memory. sent: bytes to other chips, by kind of collective.
        seconds_compute, seconds_memory, seconds_network: each alone, at the vendor's peak.
        bound: which of the three is the longest. seconds: its time; no run can be faster.
        tokens_per_second: the most, over all devices. mfu: the analytic operations, without those
            that are repeated to save memory, over what the chips could do in that time.
        compile_seconds, host_bytes: the time to compile, and the peak memory of this process.
        layers: how many layers were compiled, if a straight line leads from them to all.
        reason: why it does not fit, if the compiler says so; then little else is known.
    """

    fits: bool
    devices: int
    hbm: float
    resident: float
    arguments: float | None = None
    output: float | None = None
    temporaries: float | None = None
    peak: float | None = None
    flops: float | None = None
    flops_analytic: float | None = None
    moved: float | None = None
    sent: dict[str, float] | None = None
    collectives: dict[str, int] | None = None
    seconds_compute: float | None = None
    seconds_memory: float | None = None
    seconds_network: float | None = None
    bound: str | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    compile_seconds: float | None = None
    host_bytes: float | None = None
    layers: tuple[int, int] | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def measure(program: Program, topology: Topology) -> tuple[Cost, Any | None]:
    """Compiles a program. Returns its cost, and the compiled program or None if it does not fit."""
    began = time.monotonic()
    try:
        compiled = _compile(program)
    except DoesNotFit as error:
        return _too_large(program, topology.chip, str(error), time.monotonic() - began), None
    spent = time.monotonic() - began
    return _cost(program, topology.chip, _sizes(program, compiled), spent), compiled


def extrapolate(
    short: tuple[Program, Program], times: float, whole: Program, topology: Topology
) -> Cost:
    """The cost of a program that is not compiled, on a straight line through two that are.

    times: how many times the step from the first to the second leads from the first to the whole.
    """
    began = time.monotonic()
    try:
        compiled = [_compile(program) for program in short]
    except DoesNotFit as error:
        return _too_large(whole, topology.chip, str(error), time.monotonic() - began)
    spent = time.monotonic() - began
    first, second = map(_sizes, short, compiled)
    return _cost(whole, topology.chip, first.towards(second, times), spent)


class DoesNotFit(Exception):
    """The compiler's message, in a line: the program is too large for the chip."""


def _compile(program: Program) -> Any:
    try:
        with jax.set_mesh(program.mesh):
            return program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if (reason := _out_of_memory(str(error))) is None:
            raise
        raise DoesNotFit(reason) from None


@dataclass(frozen=True)
class _Sizes:
    """Of a compiled program, per device: bytes in memory, and what one run does."""

    arguments: float
    temporaries: float
    output: float
    counts: Counts

    def towards(self, other: _Sizes, times: float) -> _Sizes:
        """These, and so many times what `other` has more; of temporaries no less than either has,
        since the compiler may keep those of the longer program elsewhere."""

        def on(a: float, b: float) -> float:
            return a + times * (b - a)

        temporaries = self.temporaries, other.temporaries
        return _Sizes(
            on(self.arguments, other.arguments),
            max(*temporaries, on(*temporaries)),
            on(self.output, other.output),
            self.counts.towards(other.counts, times),
        )


def _sizes(program: Program, compiled: Any) -> _Sizes:
    memory = compiled.memory_analysis()
    return _Sizes(
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.output_size_in_bytes - memory.alias_size_in_bytes,
        count(compiled.as_text(), program.trips, program.pairs, program.routed),
    )


def _too_large(program: Program, chip: Chip, reason: str, spent: float) -> Cost:
    return Cost(
        False,
        program.mesh.size,
        chip.hbm / chip.devices,
        program.resident,
        reason=reason,
        compile_seconds=spent,
        host_bytes=_host_peak(),
    )


def _cost(program: Program, chip: Chip, sizes: _Sizes, spent: float) -> Cost:
    """The cost of a program that was compiled in `spent` seconds."""
    devices, hbm, counts = program.mesh.size, chip.hbm / chip.devices, sizes.counts
    peak = sizes.arguments + sizes.temporaries + sizes.output
    seconds = {
        "compute": counts.flops / (chip.flops / chip.devices),
        "memory": counts.hbm / (chip.hbm_bandwidth / chip.devices),
        "network": sum(counts.sent.values()) / (chip.ici_bandwidth / chip.devices),
    }
    bound = max(seconds, key=lambda name: seconds[name])
    needed = program.flops / devices
    longest = seconds[bound]
    return Cost(
        fits=peak + program.resident <= hbm,
        devices=devices,
        hbm=hbm,
        resident=program.resident,
        arguments=sizes.arguments,
        output=sizes.output,
        temporaries=sizes.temporaries,
        peak=peak,
        flops=counts.flops,
        flops_analytic=needed,
        moved=counts.hbm,
        sent=counts.sent,
        collectives=counts.collectives,
        seconds_compute=seconds["compute"],
        seconds_memory=seconds["memory"],
        seconds_network=seconds["network"],
        bound=bound,
        seconds=longest,
        tokens_per_second=program.tokens / longest,
        mfu=(program.useful or program.flops) / devices / (longest * chip.flops / chip.devices),
        compile_seconds=spent,
        host_bytes=_host_peak(),
    )


def _out_of_memory(message: str) -> str | None:
    """The compiler's message, in a line, if a program is too large for the chip."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    found = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    return f"needs {found[1]} of {found[2]}" if found else message.splitlines()[0][:200]


def _host_peak() -> float:
    """The peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
