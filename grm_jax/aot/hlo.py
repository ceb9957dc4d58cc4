"""Reads a compiled program's text: operations, bytes from memory and between chips, per run.

XLA's own cost analysis counts the body of a loop once. Here a computation counts as often as it
runs: loops by the trip count that the compiler knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from grm_jax.aot.kernels import splash_flops

BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16,
    "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64,
}  # fmt: skip
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Neither of these moves anything by itself.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "iota", "opt-barrier",
}  # fmt: skip

_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r"(?:^|\s)([a-z][a-z0-9\-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
_SHAPE = re.compile(r"\b([a-z]+\d*|pred)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class Shape:
    """An array: element type, sizes, and whether it lies in the chip's main memory."""

    kind: str
    sizes: tuple[int, ...]
    main: bool

    @property
    def bytes(self) -> float:
        return math.prod(self.sizes) * BITS.get(self.kind, 0) / 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation: its result's arrays, what it does, and to what."""

    name: str
    shapes: tuple[Shape, ...]
    operation: str
    arguments: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of what it is done to."""
        return _NAME.findall(self.arguments)


@dataclass
class Counts:
    """What one device does in one run of a program.

    Of a conditional the cheapest branch counts: these are the least that any run does.

    Attributes:
        flops: operations of matrix products, convolutions and attention kernels.
        hbm: bytes read from and written to main memory.
        sent: bytes that leave the device, by kind of collective, for a ring.
        collectives: how many of each kind are run.
        unknown: loops whose trip count was not known.
    """

    flops: float = 0.0
    hbm: float = 0.0
    sent: dict[str, float] = field(default_factory=dict)
    collectives: dict[str, int] = field(default_factory=dict)
    unknown: int = 0

    def add(self, other: Counts, times: int) -> None:
        """Counts another so many times."""
        self.flops += times * other.flops
        self.hbm += times * other.hbm
        self.unknown += other.unknown
        for kind, value in other.sent.items():
            self.sent[kind] = self.sent.get(kind, 0.0) + times * value
        for kind, count in other.collectives.items():
            self.collectives[kind] = self.collectives.get(kind, 0) + times * count


def count(text: str, trips: int = 1) -> Counts:
    """The counts of an optimised module, from its text.

    Args:
        trips: of loops whose trip count is not in the text.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = parse(text)
    return _Counter(computations, trips).of(entry)


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    """Every computation's instructions by name, and the name of the entry.

    Raises:
        ValueError: there is no entry.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry = None
    current: dict[str, Instruction] | None = None
    for line in text.splitlines():
        if not line.startswith((" ", "}")) and (found := _COMPUTATION.match(line)):
            current = computations.setdefault(found[2], {})
            entry = found[2] if found[1] else entry
        elif current is not None and (instruction := _read(line)):
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("this is no text of a compiled program: it has no ENTRY.")
    return computations, entry


def _read(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if found is None:
        return None
    operation = _OPERATION.search(found[3])
    if operation is None:
        return None
    result, after = found[3][: operation.start()], found[3][operation.end() :]
    end = _closing(after)
    return Instruction(
        name=found[2],
        shapes=tuple(_shapes(result)),
        operation=operation[1],
        arguments=after[:end],
        rest=after[end:],
        root=bool(found[1]),
    )


def _closing(text: str) -> int:
    """Where the parenthesis closes that was open before the text."""
    depth = 1
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i
    return len(text)


def _shapes(text: str) -> Iterator[Shape]:
    for kind, sizes, layout in _SHAPE.findall(text):
        yield Shape(kind, tuple(int(n) for n in sizes.split(",") if n), "S(" not in layout)


class _Counter:
    """Counts computations, each once."""

    def __init__(self, computations: dict[str, dict[str, Instruction]], trips: int):
        self.computations, self.trips = computations, trips
        self.done: dict[str, Counts] = {}

    def of(self, name: str) -> Counts:
        """One run of a computation, with all that it calls."""
        if name not in self.done:
            counts = self.done[name] = Counts()
            body = self.computations[name]
            for instruction in body.values():
                self._count(instruction, body, counts)
        return self.done[name]

    def _count(self, i: Instruction, body: dict[str, Instruction], counts: Counts) -> None:
        if i.operation == "while":
            known = _known_trips(i, self.computations)
            counts.unknown += known is None
            counts.add(self.of(_called(i, "body")), self.trips if known is None else known)
        elif i.operation == "conditional":
            branches = map(self.of, _branches(i))
            # The cheapest, so that no run can do with less.
            counts.add(min(branches, key=lambda branch: branch.flops + branch.hbm), 1)
        elif i.operation in ("fusion", "call", "async-start"):
            called = self.of(_called(i, "calls" if "calls=" in i.rest else "to_apply"))
            inner = called
            if i.operation == "fusion":  # what is inside stays inside; operands are counted here
                inner = Counts(called.flops, 0.0, called.sent, called.collectives, called.unknown)
            counts.add(inner, 1)
        kind = next((k for k in COLLECTIVES if i.operation in (k, f"{k}-start")), None)
        if kind is not None:
            counts.collectives[kind] = counts.collectives.get(kind, 0) + 1
            counts.sent[kind] = counts.sent.get(kind, 0.0) + _sent(kind, i, body)
        if i.operation == "dot":
            counts.flops += _dot(i, body)
        elif i.operation == "convolution":
            counts.flops += _convolution(i, body)
        elif i.operation == "custom-call" and _target(i) == "tpu_custom_call":
            counts.flops += splash_flops(i.name, _sizes(i, 0, body), _sizes(i, 2, body))
        reserved = i.operation == "custom-call" and _target(i) == "AllocateBuffer"
        if i.operation not in FREE and not reserved and not i.operation.endswith("-done"):
            counts.hbm += self._moved(i, body)

    def _moved(self, i: Instruction, body: dict[str, Instruction]) -> float:
        """Bytes that an instruction reads from and writes to main memory."""
        inside = None
        if i.operation == "fusion":
            inside = self.computations[_called(i, "calls")]
        written = sum(s.bytes for s in i.shapes if s.main)
        if i.operation == "dynamic-update-slice":  # in place: the slice is written, no more
            return 2 * _bytes(i.operands[1], body)
        if i.operation in ("dynamic-slice", "slice", "gather"):
            return 2 * written
        if inside is not None:
            root = next((x for x in inside.values() if x.root), None)
            if root is not None and root.operation == "dynamic-update-slice":
                written = _bytes(root.operands[1], inside)
        read = 0.0
        for place, name in enumerate(i.operands):
            whole = _bytes(name, body)
            if inside is not None and whole:
                read += self._read(_parameter(place, inside), inside)
            else:
                read += whole
        return written + read

    def _read(self, name: str, body: dict[str, Instruction]) -> float:
        """Bytes read of a fusion's parameter: only the slice where no more is taken of it."""
        if body[name].root:  # it goes on outside
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
                inside = self.computations[_called(use, "calls")]
                for place, operand in enumerate(use.operands):
                    if operand == name:
                        taken += self._read(_parameter(place, inside), inside)
            elif use.operation == "dynamic-update-slice":
                taken += 0.0 if use.operands[0] == name else _whole(name, body)
            elif use.operation != "dynamic-slice":
                return _whole(name, body)
        return min(taken, _whole(name, body))


def _known_trips(i: Instruction, computations: dict[str, dict[str, Instruction]]) -> int | None:
    """How often a loop runs: what the compiler wrote, or N / step of a condition `counter < N`.

    Loops count from 0; those that JAX makes of scans by 1, those of a matrix product that overlaps
    with its collectives by 2.
    """
    if found := _TRIPS.search(i.rest):
        return int(found[1])
    condition = computations[_called(i, "condition")]
    root = next(x for x in condition.values() if x.root)
    if root.operation != "compare" or "direction=LT" not in root.rest:
        return None
    limit = condition[root.operands[1]]
    if limit.operation != "constant":
        return None
    step = _step(condition[root.operands[0]], computations[_called(i, "body")])
    return -(-int(limit.arguments) // step)


def _step(counter: Instruction, body: dict[str, Instruction]) -> int:
    """What a loop's body adds to its counter, an element of the tuple that it carries."""
    found = re.search(r"index=(\d+)", counter.rest)
    root = next(x for x in body.values() if x.root)
    if found is None or root.operation != "tuple":
        return 1
    after = body[root.operands[int(found[1])]]
    terms = [body[name] for name in after.operands if name in body]
    steps = [int(x.arguments) for x in terms if x.operation == "constant"]
    return steps[0] if after.operation == "add" and steps else 1


def _called(i: Instruction, role: str) -> str:
    found = re.search(rf"\b{role}=%?([\w.\-]+)", i.rest)
    if found is None:
        raise ValueError(f"{i.operation} {i.name} names no computation as its {role}.")
    return found[1]


def _branches(i: Instruction) -> list[str]:
    """The computations of which a conditional runs one."""
    if found := re.search(r"\bbranch_computations=\{([^}]*)\}", i.rest):
        return _NAME.findall(found[1])
    return [_called(i, "true_computation"), _called(i, "false_computation")]


def _target(i: Instruction) -> str | None:
    found = re.search(r'custom_call_target="([^"]*)"', i.rest)
    return found[1] if found else None


def _bytes(name: str, body: dict[str, Instruction]) -> float:
    """The size of an operand, if it lies in main memory."""
    return sum(s.bytes for s in body[name].shapes if s.main) if name in body else 0.0


def _whole(name: str, body: dict[str, Instruction]) -> float:
    return sum(s.bytes for s in body[name].shapes)


def _parameter(place: int, body: dict[str, Instruction]) -> str:
    """The name of a computation's parameter number `place`."""
    wanted = (x.name for x in body.values() if x.operation == "parameter")
    return next(name for name in wanted if body[name].arguments == str(place))


def _sizes(i: Instruction, place: int, body: dict[str, Instruction]) -> tuple[int, ...]:
    return body[i.operands[place]].shapes[0].sizes


def _dot(i: Instruction, body: dict[str, Instruction]) -> float:
    found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.rest)
    left = _sizes(i, 0, body)
    inner = math.prod(left[int(d)] for d in found[1].split(",") if d) if found else 1
    return 2.0 * math.prod(i.shapes[0].sizes) * inner


def _convolution(i: Instruction, body: dict[str, Instruction]) -> float:
    """2 x outputs x inputs per output, without what padding and dilation fill with zeros.

    A TPU writes a matrix product as a convolution, and the batch of one as a padded, dilated
    spatial dimension, where almost all positions are zeros.
    """
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.rest)
    if found is None:
        raise ValueError(f"convolution {i.name} has no dim_labels.")
    left, kernel, out = _sizes(i, 0, body), _sizes(i, 1, body), i.shapes[0].sizes
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
    """What window={..} says of each spatial dimension."""
    found = re.search(r"window=\{([^}]*)\}", rest)
    parts = (part.split("=") for part in found[1].split()) if found else ()
    return {
        name: [tuple(int(x) for x in value.split("_")) for value in values.split("x")]
        for name, values in parts
        if name != "rhs_reversal"
    }


def _pairs(left: int, kernel: int, out: int, window: dict[str, tuple[int, ...]]) -> int:
    """How many (kernel position, output position) meet an input that is no filling."""
    stride = window.get("stride", (1,))[0]
    low = window.get("pad", (0, 0))[0]
    left_dilation = window.get("lhs_dilate", (1,))[0]
    right_dilation = window.get("rhs_dilate", (1,))[0]
    at = np.arange(out)[:, None] * stride - low + np.arange(kernel)[None] * right_dilation
    inside = (at >= 0) & (at < (left - 1) * left_dilation + 1) & (at % left_dilation == 0)
    return int(inside.sum())


def _sent(kind: str, i: Instruction, body: dict[str, Instruction]) -> float:
    """Bytes that a device sends in a ring of its group."""
    given = sum(s.bytes for name in i.operands if name in body for s in body[name].shapes)
    if kind == "collective-permute":
        return given
    group = _group(i.rest)
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


def _group(rest: str) -> int:
    """How many devices take part together.

    Raises:
        ValueError: groups in a spelling that is not known.
    """
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", found[1])}
        # An axis, or a part of it: 'name':(before)size.
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
        return int(found[2])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(found[1].split(","))
    raise ValueError(f"no replica groups can be read in {rest[:120]!r}.")
