"""A lower bound on the cost of the paper's training, and of verdicts, from compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grm_jax.aot.topology import Topology

Row = dict[str, Any]
STEPS = 900  # of RFT, and of RL (the paper's table of hyperparameters)
ROLLOUTS = 512  # sequences in an RL step
# The programs of an RL step, and of an RFT step.
RL = ("prefill", "decode", "grpo-score", "grpo-step")
RFT = ("rft-step",)


@dataclass(frozen=True)
class Plan:
    """SPCT of a preset on a slice.

    Attributes:
        fits: whether every program does; None if one is missing.
        used: the share of a chip's memory that the largest program and its surroundings take.
        rft_step, rl_step: seconds by the roofline; no run can be faster.
        mfu: of an RFT step that takes so long.
        rft_hours, rl_hours: for the paper's 900 steps each.
    """

    preset: str
    topology: str
    chips: int
    fits: bool | None
    used: float | None
    rft_step: float | None
    rl_step: float | None
    mfu: float | None

    @property
    def rft_hours(self) -> float | None:
        return self.rft_step and STEPS * self.rft_step / 3600

    @property
    def rl_hours(self) -> float | None:
        return self.rl_step and STEPS * self.rl_step / 3600


def plans(rows: Sequence[Row]) -> list[Plan]:
    """A plan for every preset and slice with a training step, smaller slices first.

    Prefill and decode run as often as it takes for the 512 rollouts of a step. Those of a judge
    (all samples of one prompt, group 0) are not rollouts.
    """
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if "error" in row or (row["group"] == 0 and row["program"] in ("prefill", "decode")):
            continue
        found.setdefault((row["preset"], row["topology"]), {})[row["program"]] = row
    made = [
        _plan(preset, topology, programs)
        for (preset, topology), programs in found.items()
        if any(name in programs for name in (*RFT, "grpo-step"))
    ]
    order = list(dict.fromkeys(row["preset"] for row in rows if "error" not in row))
    return sorted(made, key=lambda p: (order.index(p.preset), p.topology.split(":")[0], p.chips))


@dataclass(frozen=True)
class Verdict:
    """Verdicts by k samples of a preset on a slice that is never idle.

    Attributes:
        length, new: tokens of a prompt, and of a sample.
        at_a_time: samples that are drawn together.
        fits: whether both programs do.
        used: the share of a chip's memory that the larger one takes.
        chip_seconds: of a verdict, by the roofline; no run can be faster.
    """

    preset: str
    topology: str
    chips: int
    k: int
    length: int
    new: int
    at_a_time: int
    fits: bool
    used: float | None
    chip_seconds: float | None

    @property
    def thousand(self) -> float | None:
        """Chip-hours of 1,000 verdicts."""
        return self.chip_seconds and 1000 * self.chip_seconds / 3600


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """A verdict for every decode row that has a prefill row of the same work, in their order."""

    def work(row: Row) -> tuple[Any, ...]:
        return tuple(row[x] for x in ("preset", "topology", "sequences", "group", "length"))

    known = [row for row in rows if "error" not in row]
    prefills = {work(row): row for row in known if row["program"] == "prefill"}
    drawn = [row for row in known if row["program"] == "decode" and work(row) in prefills]
    return [_verdict(prefills[work(row)], row) for row in drawn]


def _verdict(prefill: Row, decode: Row) -> Verdict:
    lanes = decode["mesh"]["data"] * decode["mesh"]["fsdp"]
    slots = decode["sequences"] // lanes
    k = min(decode["group"] or slots, slots)
    chips = Topology(decode["topology"]).chips
    both, seconds = (prefill, decode), None
    if all(row["seconds"] is not None for row in both):
        seconds = chips * sum(row["seconds"] for row in both) * k / decode["sequences"]
    return Verdict(
        preset=decode["preset"],
        topology=decode["topology"],
        chips=chips,
        k=k,
        length=decode["length"],
        new=decode["new"],
        at_a_time=decode["sequences"],
        fits=all(row["fits"] for row in both),
        used=_used(both),
        chip_seconds=seconds,
    )


def smallest(made: Sequence[Plan]) -> list[Plan]:
    """The smallest slice that fits, for every preset and kind of chip with several slices."""
    kinds: dict[tuple[str, str], list[Plan]] = {}
    for plan in made:
        kinds.setdefault((plan.preset, plan.topology.split(":")[0]), []).append(plan)
    fitting = [[p for p in slices if p.fits] for slices in kinds.values() if len(slices) > 1]
    return [min(slices, key=lambda p: p.chips) for slices in fitting if slices]


def _plan(preset: str, topology: str, programs: dict[str, Row]) -> Plan:
    known = [programs[name] for name in (*RFT, *RL) if name in programs]
    step = programs.get("rft-step", {})
    whole = len(known) == len(RFT) + len(RL)
    fits = all(row["fits"] for row in known)
    return Plan(
        preset=preset,
        topology=topology,
        chips=Topology(topology).chips,
        fits=fits if whole or not fits else None,
        used=_used(known),
        rft_step=step.get("seconds"),
        rl_step=_rl_step(programs),
        mfu=step.get("mfu"),
    )


def _used(rows: Sequence[Row]) -> float | None:
    if any(row["peak"] is None for row in rows):
        return None
    return max((row["peak"] + row["resident"]) / row["hbm"] for row in rows)


def _rl_step(programs: dict[str, Row]) -> float | None:
    if any(programs.get(name, {}).get("seconds") is None for name in RL):
        return None
    return sum(ROLLOUTS / programs[name]["sequences"] * programs[name]["seconds"] for name in RL)
