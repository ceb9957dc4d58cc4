"""The share of `make test-faults` that CI runs: kills, damage, a full disk, two processes, NaN."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def share():
    """What one process says that runs all of it: a round costs no imports."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.run", "--share"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr)
    return done


def test_nothing_is_lost_doubled_or_different(share):
    assert share.returncode == 0, share.stdout[-6000:] + share.stderr[-3000:]


def test_a_disk_was_full(share):
    """A skip says that this machine cannot try it."""
    _, lacks, why = share.stdout.partition("(not run: ")
    if lacks:
        pytest.skip(why.partition(")")[0])
    assert "judge: disk full" in share.stdout
