"""The share of `make test-faults` that CI runs: kills, damage, a full disk, two processes, NaN."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.faults.run import SHARE

PARTS = [*(f"kill {name}" for name in SHARE), "damage", "all broken", "full", "two", "not finite"]


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_lost_doubled_or_different(part, work):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.run", "--share", "--only", part, "--work", str(work)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    if "(not run: " in done.stdout:
        pytest.skip(done.stdout.partition("(not run: ")[2].partition(")")[0])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One folder for all parts: each command runs undisturbed once."""
    return tmp_path_factory.mktemp("faults")
