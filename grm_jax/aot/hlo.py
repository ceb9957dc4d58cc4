"""Reads the text of a compiled program: computations, instructions and their attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16,
    "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64,
}  # fmt: skip
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r"(?:^|\s)([a-z][a-z0-9\-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
_SHAPE = re.compile(r"\b([a-z]+\d*|pred)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class Shape:
    """An array: element type, sizes, and whether it is in the chip's main memory."""

    kind: str
    sizes: tuple[int, ...]
    main: bool

    @property
    def bytes(self) -> float:
        return math.prod(self.sizes) * BITS.get(self.kind, 0) / 8


@dataclass(frozen=True)
class Instruction:
    """A line of a computation: the arrays of its result, the operation, and its operands."""

    name: str
    shapes: tuple[Shape, ...]
    operation: str
    arguments: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return _NAME.findall(self.arguments)


# The instructions of a computation, by name.
Computation = dict[str, Instruction]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Every computation's instructions by name, and the name of the entry.

    Raises:
        ValueError: there is no entry.
    """
    computations: dict[str, Computation] = {}
    entry = None
    current: Computation | None = None
    for line in text.splitlines():
        if not line.startswith((" ", "}")) and (found := _COMPUTATION.match(line)):
            current = computations.setdefault(found[2], {})
            entry = found[2] if found[1] else entry
        elif current is not None and (instruction := _read(line)):
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY.")
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
    """Where the parenthesis that was opened before the text closes."""
    depth = 1
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i
    return len(text)


def _shapes(text: str) -> Iterator[Shape]:
    for kind, sizes, layout in _SHAPE.findall(text):
        yield Shape(kind, tuple(int(n) for n in sizes.split(",") if n), "S(" not in layout)


def known_trips(i: Instruction, computations: dict[str, Computation]) -> int | None:
    """How often a loop runs: as the compiler wrote it, or N / step from a condition `counter < N`.

    Loops count from 0: those of JAX's scans in steps of 1, those that overlap a matrix product with
    its collectives in steps of 2.
    """
    if found := _TRIPS.search(i.rest):
        return int(found[1])
    condition = computations[called(i, "condition")]
    root = next(x for x in condition.values() if x.root)
    if root.operation != "compare" or "direction=LT" not in root.rest:
        return None
    limit = condition[root.operands[1]]
    if limit.operation != "constant":
        return None
    step = _step(condition[root.operands[0]], computations[called(i, "body")])
    return -(-int(limit.arguments) // step)


def _step(counter: Instruction, body: Computation) -> int:
    """What the body of a loop adds to its counter, an element of the carried tuple."""
    found = re.search(r"index=(\d+)", counter.rest)
    root = next(x for x in body.values() if x.root)
    if found is None or root.operation != "tuple":
        return 1
    after = body[root.operands[int(found[1])]]
    terms = [body[name] for name in after.operands if name in body]
    steps = [int(x.arguments) for x in terms if x.operation == "constant"]
    return steps[0] if after.operation == "add" and steps else 1


def called(i: Instruction, role: str) -> str:
    """The computation that an instruction runs, such as the body of a loop.

    Raises:
        ValueError: it names none.
    """
    found = re.search(rf"\b{role}=%?([\w.\-]+)", i.rest)
    if found is None:
        raise ValueError(f"{i.operation} {i.name} names no computation as its {role}.")
    return found[1]


def branches(i: Instruction) -> list[str]:
    """The branches of a conditional."""
    if found := re.search(r"\bbranch_computations=\{([^}]*)\}", i.rest):
        return _NAME.findall(found[1])
    return [called(i, "true_computation"), called(i, "false_computation")]


def target(i: Instruction) -> str | None:
    """The target of a custom call, such as a kernel; None for other instructions."""
    found = re.search(r'custom_call_target="([^"]*)"', i.rest)
    return found[1] if found else None


def parameter(place: int, body: Computation) -> str:
    """The name of parameter number `place` of a computation."""
    wanted = (x.name for x in body.values() if x.operation == "parameter")
    return next(name for name in wanted if body[name].arguments == str(place))


def sizes(i: Instruction, place: int, body: Computation) -> tuple[int, ...]:
    """The sizes of operand number `place`."""
    return body[i.operands[place]].shapes[0].sizes


def group_size(rest: str) -> int:
    """The number of devices in a group.

    Raises:
        ValueError: the groups are written in an unknown way.
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
