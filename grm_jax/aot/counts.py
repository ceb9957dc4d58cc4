"""Costs of one run of a compiled program: operations, and bytes to and from memory and chips.

XLA's own cost analysis counts the body of a loop once. Here a computation counts as often as it
runs; the trip counts of loops are those that the compiler knows.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

import numpy as np

from grm_jax.aot.hlo import (
    Computation,
    Instruction,
    Shape,
    branches,
    called,
    group_size,
    known_trips,
    parameter,
    parse,
    sizes,
    target,
)
from grm_jax.aot.kernels import Pairs, Routed, splash_flops
from grm_jax.models.grouped import SIDE

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# The compiler's kernel for products with experts, and the one that makes tables for it.
RAGGED, TABLES = "ragged-dot", "ragged-dot-metadata"
# Part of the name of Megablox's, for the gradient of the experts, see `models.grouped`.
OF_EXPERTS = "tgmm"
# None of these moves data.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "iota", "opt-barrier",
}  # fmt: skip


@dataclass
class Counts:
    """What one device does in one run of a program.

    Conditionals count with their cheapest branch, so no run does less than this.

    Attributes:
        flops: operations of matrix products, convolutions and attention kernels.
        hbm: bytes read from and written to main memory.
        sent: bytes that leave the device, by kind of collective, for a ring.
        collectives: runs of each kind of collective.
        unknown: loops with unknown trip counts.
    """

    flops: float = 0.0
    hbm: float = 0.0
    sent: dict[str, float] = field(default_factory=dict)
    collectives: dict[str, int] = field(default_factory=dict)
    unknown: int = 0

    def add(self, other: Counts, times: int) -> None:
        """Adds other counts, a number of times."""
        self.flops += times * other.flops
        self.hbm += times * other.hbm
        self.unknown += other.unknown
        for kind, value in other.sent.items():
            self.sent[kind] = self.sent.get(kind, 0.0) + times * value
        for kind, count in other.collectives.items():
            self.collectives[kind] = self.collectives.get(kind, 0) + times * count

    def towards(self, other: Counts, times: float) -> Counts:
        """These, and so many times what `other` has more, but nothing below zero."""

        def on(a: float, b: float) -> float:
            return max(a + times * (b - a), 0.0)

        sent = sorted({*self.sent, *other.sent})
        runs = sorted({*self.collectives, *other.collectives})
        return Counts(
            on(self.flops, other.flops),
            on(self.hbm, other.hbm),
            {kind: on(self.sent.get(kind, 0.0), other.sent.get(kind, 0.0)) for kind in sent},
            {
                kind: round(on(self.collectives.get(kind, 0), other.collectives.get(kind, 0)))
                for kind in runs
            },
            max(self.unknown, other.unknown),
        )


def count(
    text: str, trips: int = 1, pairs: Pairs | None = None, routed: Routed | None = None
) -> Counts:
    """The counts of an optimised module, from its text.

    Args:
        trips: the trip count of loops for which the text has none.
        pairs: pairs of query and key in attention kernels for rows that are not simply causal.
        routed: what a device does of products with experts; by default all.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = parse(text)
    return _Counter(computations, trips, pairs, routed or Routed()).of(entry)


class _Counter:
    """Counts computations, each once."""

    def __init__(
        self,
        computations: dict[str, Computation],
        trips: int,
        pairs: Pairs | None,
        routed: Routed,
    ):
        self.computations, self.trips = computations, trips
        self.pairs, self.routed = pairs, routed
        self.done: dict[str, Counts] = {}

    def of(self, name: str) -> Counts:
        """One run of a computation, with everything it calls."""
        if name not in self.done:
            counts = self.done[name] = Counts()
            body = self.computations[name]
            for instruction in body.values():
                self._count(instruction, body, counts)
        return self.done[name]

    def _count(self, i: Instruction, body: Computation, counts: Counts) -> None:
        if i.operation == "while":
            known = known_trips(i, self.computations)
            counts.unknown += known is None
            counts.add(self.of(called(i, "body")), self.trips if known is None else known)
        elif i.operation == "conditional":
            runs = map(self.of, branches(i))
            # The cheapest branch, so that no run does less.
            counts.add(min(runs, key=lambda run: run.flops + run.hbm), 1)
        elif i.operation in ("fusion", "call", "async-start"):
            inner = self.of(called(i, "calls" if "calls=" in i.rest else "to_apply"))
            if i.operation == "fusion":  # its values stay on the chip; operands are counted here
                inner = replace(inner, hbm=0.0)
            counts.add(inner, 1)
        kind = next((k for k in COLLECTIVES if i.operation in (k, f"{k}-start")), None)
        if kind is not None:
            counts.collectives[kind] = counts.collectives.get(kind, 0) + 1
            counts.sent[kind] = counts.sent.get(kind, 0.0) + _sent(kind, i, body)
        if i.operation == "dot":
            counts.flops += _dot(i, body)
        elif i.operation == "convolution":
            counts.flops += _convolution(i, body)
        elif i.operation == "custom-call" and target(i) == "tpu_custom_call":
            counts.flops += self._kernel(i, body)
        reserved = i.operation == "custom-call" and target(i) == "AllocateBuffer"
        # Of async-start the computation that it calls is counted.
        waits = i.operation.endswith("-done") or i.operation == "async-start"
        if i.operation not in FREE and not reserved and not waits:
            counts.hbm += self._moved(i, body)

    def _kernel(self, i: Instruction, body: Computation) -> float:
        """Operations of a kernel."""
        if i.name.startswith(TABLES):
            return 0.0
        floats = [shape.sizes for shape in _floats(i, body)]
        if i.name.startswith(RAGGED):
            return self.routed.flops(*floats[:2])
        if _of_experts(i):
            return self.routed.flops(floats[0], i.shapes[0].sizes)
        queries, values = floats[0] if floats else (), floats[2][-1] if len(floats) > 2 else None
        return splash_flops(i.name, sizes(i, 0, body), queries, self.pairs, values)

    def _moved(self, i: Instruction, body: Computation) -> float:
        """Bytes that an instruction reads from and writes to main memory."""
        if i.name.startswith(RAGGED) and not i.name.startswith(TABLES):
            rows, experts = _floats(i, body)[:2]
            moved = sum(s.bytes for s in (rows, *i.shapes) if s.main) * self.routed.rows
            return moved + self.routed.share(experts.sizes) * experts.bytes
        if _of_experts(i):  # rows are read for every block of the other side
            (rows, out), (_, *sides) = _floats(i, body)[:2], i.shapes[0].sizes
            blocks = [-(-side // SIDE) for side in reversed(sides)]
            read = sum(s.bytes * n for s, n in zip((rows, out), blocks, strict=True) if s.main)
            return read * self.routed.rows + sum(s.bytes for s in i.shapes if s.main)
        inside = None
        if i.operation == "fusion":
            inside = self.computations[called(i, "calls")]
        written = sum(s.bytes for s in _results(i) if s.main)
        if i.operation == "dynamic-update-slice":  # in place: only the slice is written
            return 2 * _bytes(i.operands[1], body)
        if i.operation in ("dynamic-slice", "slice", "gather"):
            return 2 * written
        if i.operation == "slice-start":  # mostly into fast memory
            return written + _results(i)[0].bytes
        if inside is not None:
            root = next((x for x in inside.values() if x.root), None)
            if root is not None and root.operation == "dynamic-update-slice":
                written = _bytes(root.operands[1], inside)
        read = 0.0
        for place, name in enumerate(i.operands):
            whole = _bytes(name, body)
            if inside is not None and whole:
                read += self._read(parameter(place, inside), inside)
            else:
                read += whole
        return written + read

    def _read(self, name: str, body: Computation) -> float:
        """Bytes read from a fusion's parameter: only a slice if nothing else of it is used."""
        if body[name].root:  # it is also the result
            return _whole(name, body)
        taken = 0.0
        for use in body.values():
            if name not in use.operands:
                continue
            if use.operation in ("dynamic-slice", "slice", "gather") and use.operands[0] == name:
                taken += sum(s.bytes for s in use.shapes)
            elif use.operation in ("bitcast", "reshape"):
                taken += self._read(use.name, body)
            elif use.operation == "fusion":
                inside = self.computations[called(use, "calls")]
                for place, operand in enumerate(use.operands):
                    if operand == name:
                        taken += self._read(parameter(place, inside), inside)
            elif use.operation == "dynamic-update-slice":
                taken += 0.0 if use.operands[0] == name else _whole(name, body)
            elif use.operation != "dynamic-slice":
                return _whole(name, body)
        return min(taken, _whole(name, body))


def _results(i: Instruction) -> tuple[Shape, ...]:
    """What an instruction writes. One that only starts names its operands beside its results, and
    then its tokens: copy-start after the copy, the others before."""
    if i.operation == "copy-start":
        return i.shapes[:1]
    if i.operation.endswith("-start") and len(i.shapes) >= 2 * len(i.operands):
        return i.shapes[len(i.operands) :]
    return i.shapes


def _of_experts(i: Instruction) -> bool:
    """Whether it is the kernel, and not a piece of the tables that it takes."""
    return i.operation == "custom-call" and target(i) == "tpu_custom_call" and OF_EXPERTS in i.name


def _bytes(name: str, body: Computation) -> float:
    """The size of an operand in bytes; 0 if it is not in main memory."""
    return sum(s.bytes for s in body[name].shapes if s.main) if name in body else 0.0


def _whole(name: str, body: Computation) -> float:
    return sum(s.bytes for s in body[name].shapes)


def _floats(i: Instruction, body: Computation) -> list[Shape]:
    """A kernel's operands that are no tables of integers: queries, keys and values first, or rows
    and experts."""
    shapes = (body[name].shapes[0] for name in i.operands)
    return [s for s in shapes if s.kind in ("bf16", "f32")]


def _dot(i: Instruction, body: Computation) -> float:
    found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.rest)
    left = sizes(i, 0, body)
    inner = math.prod(left[int(d)] for d in found[1].split(",") if d) if found else 1
    return 2.0 * math.prod(i.shapes[0].sizes) * inner


def _convolution(i: Instruction, body: Computation) -> float:
    """2 x outputs x inputs per output, without the zeros that padding and dilation fill in.

    On a TPU a matrix product becomes a convolution, and its batch a padded and dilated spatial
    dimension, in which almost all positions are zero.
    """
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.rest)
    if found is None:
        raise ValueError(f"convolution {i.name} has no dim_labels.")
    left, kernel, out = sizes(i, 0, body), sizes(i, 1, body), i.shapes[0].sizes
    window = _window(i.rest)
    products = 2.0 * out[found[3].index("b")] * out[found[3].index("f")]
    products *= kernel[found[2].index("i")]
    for place, dimension in enumerate(sorted(set(found[2]) - {"i", "o"})):
        products *= _pairs(
            left[found[1].index(dimension)],
            kernel[found[2].index(dimension)],
            out[found[3].index(dimension)],
            {name: values[place] for name, values in window.items()},
        )
    return products


def _window(rest: str) -> dict[str, list[tuple[int, ...]]]:
    """The attributes of window={..} for each spatial dimension."""
    found = re.search(r"window=\{([^}]*)\}", rest)
    parts = (part.split("=") for part in found[1].split()) if found else ()
    return {
        name: [tuple(int(x) for x in value.split("_")) for value in values.split("x")]
        for name, values in parts
        if name != "rhs_reversal"
    }


def _pairs(left: int, kernel: int, out: int, window: dict[str, tuple[int, ...]]) -> int:
    """Pairs of kernel position and output position that meet an input rather than a zero."""
    stride = window.get("stride", (1,))[0]
    low = window.get("pad", (0, 0))[0]
    left_dilation = window.get("lhs_dilate", (1,))[0]
    right_dilation = window.get("rhs_dilate", (1,))[0]
    at = np.arange(out)[:, None] * stride - low + np.arange(kernel)[None] * right_dilation
    inside = (at >= 0) & (at < (left - 1) * left_dilation + 1) & (at % left_dilation == 0)
    return int(inside.sum())


def _sent(kind: str, i: Instruction, body: Computation) -> float:
    """Bytes that a device sends, in a ring over its group."""
    given = sum(s.bytes for name in i.operands if name in body for s in body[name].shapes)
    if kind == "collective-permute":
        return given
    group = group_size(i.rest)
    share = (group - 1) / group
    return (
        given
        * {
            "all-gather": group - 1,
            "all-reduce": 2 * share,
            "reduce-scatter": share,
            "all-to-all": share,
        }[kind]
    )
