"""Whether two checkouts do the same: `python -m tests.checkouts BEFORE AFTER`.

In each checkout, with its own code, bundled models and small configs: the verdicts of `grm judge`
over the bundled examples and 200 items of the small world, a report of `grm eval`, and a run of
SPCT. Everything that they leave is compared byte by byte, but for what a clock says.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.compare import compare

RUN = """
import json, shutil, sys
from importlib import resources
from pathlib import Path
from grm_jax.cli import main
from grm_jax.data.synthetic import World
from tests.faults.scenes import scenes

inputs = Path.cwd() / "inputs"
commands = scenes(inputs)
world, rows = World(split="heldout", seed=0), inputs / "world.jsonl"
with rows.open("w") as file:
    for i in range(200):
        example = world.item(i).example
        row = {"id": i, "prompt": example.prompt[-1].content, "responses": example.responses}
        file.write(json.dumps(row) + "\\n")
bundled = inputs / "bundled.jsonl"
shutil.copy(resources.files("grm_jax") / "assets" / "examples.jsonl", bundled)
judge = ["judge", "--k", "4", "--meta-rm", "tiny-meta", "--output"]
for name, arguments in {
    "bundled": [*judge, "bundled/v.jsonl", "--input", str(bundled)],
    "world": [*judge, "world/v.jsonl", "--input", str(rows)],
    "eval": commands["eval"].arguments(Path("eval")),
    "spct": commands["spct"].arguments(Path("spct")),
}.items():
    print("grm", *arguments, flush=True)
    if status := main(arguments):
        sys.exit(status)
"""


def run(checkout: Path, work: Path) -> Path:
    """The folder of what a checkout's own code makes; its last name is the same for both."""
    output = work / "output"
    output.mkdir(parents=True)
    env = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    subprocess.run([sys.executable, "-c", RUN], cwd=output, env=env, check=True)
    return output


def main() -> int:
    """Prints what differs; 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--work", type=Path, help="a new folder; by default a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        before = run(args.before, work / "before")
        difference = compare(run(args.after, work / "after"), before)
    print(f"lost {difference.lost}, doubled {difference.doubled}")
    print("\n".join(difference.different) or "no file differs")
    return int(difference.any)


if __name__ == "__main__":
    sys.exit(main())
