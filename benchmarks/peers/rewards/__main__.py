"""`make test-peers`: other people's trainers with our reward, each in an environment of its own.

What their logs say of each completion must be what `grm judge` says of the same rows. Without
arguments all of LOOPS run; or name some of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.environments import python_of
from benchmarks.peers.protocol import ROOT
from benchmarks.peers.rewards import shared

# By the module that runs it: its environment, and the names of what it hands over.
LOOPS = {
    "trl_loop": ("reward-trl", ("trl", "trl_async")),
    "tunix_loop": ("reward-tunix", ("tunix",)),
    "verl_loop": ("reward-verl", ("verl", "verl_batch", "openrlhf")),
    "areal_loop": ("reward-verl", ("areal",)),
}
VARIABLES = {
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TPU_SKIP_MDS_QUERY": "1",
}


def main(modules: Sequence[str]) -> int:
    """Runs these loops; 1 if one fails, or if a reward is not what `grm judge` says."""
    environment = {**os.environ, **VARIABLES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module in modules:
            where, _ = LOOPS[module]
            print(f"{module} ..", flush=True)
            try:
                python = python_of(where, gpu=False)
            except (ValueError, subprocess.CalledProcessError) as error:
                print(f"{where} could not be made: {error}")
                return 1
            command = [python, "-m", f"benchmarks.peers.rewards.{module}", name]
            with (folder / f"{module}.log").open("w") as log:
                ended = subprocess.run(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
            if ended.returncode:
                print((folder / f"{module}.log").read_text()[-4000:])
                return 1
        names = [name for module in modules for name in LOOPS[module][1]]
        rows = [row for name in names for row in read_lines(folder / f"{name}.jsonl")]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [sys.executable, "-m", "grm_jax", "judge", "--input", f"{folder}/rows.jsonl",
                   "--output", f"{folder}/verdicts.jsonl", "--k", str(shared.K),
                   "--slots", str(shared.SLOTS)]  # fmt: skip
        subprocess.run(command, check=True, env=environment, cwd=ROOT)
        verdicts = iter(read_lines(folder / "verdicts.jsonl"))
        return max([compare(name, folder, verdicts) for name in names])


def compare(name: str, folder: Path, verdicts: Iterator[dict[str, Any]]) -> int:
    """Prints a line; 1 if a reward is not the mean score, or is there where there is an error.

    Trainers keep rewards as float32.
    """
    groups = json.loads((folder / f"{name}.json").read_text())
    wrong = 0
    for rewards, line in zip(groups, verdicts, strict=False):
        scores = line.get("mean_scores", [None] * len(rewards))
        wrong += not np.array_equal(np.array(rewards, np.float32), np.array(scores, np.float32),
                                    equal_nan=True)  # fmt: skip
    count = sum(map(len, groups))
    verdict = f"{wrong} groups differ from grm judge" if wrong else "as grm judge has them"
    print(f"{name}: {count} rewards in {len(groups)} groups, {verdict}")
    return int(wrong > 0 or not count)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return list(map(json.loads, path.read_text().splitlines()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(LOOPS)))
