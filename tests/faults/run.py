"""Disturbs every command that writes, and prints what was lost: `make test-faults`.

Exits with 1 if anything was lost, doubled or different.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.processes import QUICK

# How many kills each command gets in the share that CI runs.
SHARE = {"judge": 2, "eval": 2, "rft": 1, "grpo": 2, "meta-rm": 1, "sft": 1}
SHARED_DAMAGE = ["one bit of the largest file flipped", "largest file removed"]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--share", action="store_true", help="the part that CI runs")
    options.add_argument("--only", default="", help="only what has this word in its name")
    options.add_argument(
        "--work", type=Path, help="a folder to work in, kept; by default a new one"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (chosen.work or Path(folder)).absolute()
        _prepare(work)
        from tests.faults.rounds import table

        rounds = []
        for name, make in _plan(work, chosen.share):
            if chosen.only in name:
                began = time.monotonic()
                rounds.append(make())
                seconds = time.monotonic() - began
                told = "good" if rounds[-1].good else "NOT GOOD"
                print(f"{rounds[-1].what}: {told}, {seconds:.0f} s", flush=True)
    print(table(rounds))
    return int(not all(row.good for row in rounds))


def _prepare(work: Path) -> None:
    """One device, programs compiled once and quickly for all rounds, and no imports in a round."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": QUICK,
        "HF_HUB_OFFLINE": "1",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(work / "programs"))
    from tests.faults.process import warm_up

    warm_up()


def _plan(work: Path, share: bool) -> Iterator[tuple[str, Callable]]:
    """The rounds, by name."""
    from tests.faults.damage import all_broken, damage
    from tests.faults.kills import kill
    from tests.faults.scenes import scenes
    from tests.faults.trouble import full_disk, not_finite, two_at_once

    known = scenes(work / "inputs")
    for name, scene in known.items():
        kills = SHARE.get(name, 0) if share else scene.kills
        if kills:
            yield f"kill {name}", lambda scene=scene, kills=kills: kill(scene, work, kills)
    kinds = SHARED_DAMAGE if share else None
    yield "damage", lambda: damage(known["sft"], work, kinds)
    yield "all broken", lambda: all_broken(known["sft"], work)
    sizes = {"judge": "8k"} if share else {"judge": "8k", "eval": "40k", "sft": "6m"}
    for name, size in sizes.items():
        yield f"full {name}", lambda name=name, size=size: full_disk(known[name], work, size)
    for name in ("judge",) if share else ("judge", "eval", "sft"):
        yield f"two {name}", lambda name=name: two_at_once(known[name], work)
    yield "not finite", lambda: not_finite(known["sft"], work)


if __name__ == "__main__":
    sys.exit(main())
