"""The host holds near one copy of the weights: coming in, while a judgment is drawn, going out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf import save_folder
from grm_jax.models.hf_tensors import survey
from grm_jax.models.model import Model

CONFIG = Gemma2Config(8192, 12, 512, 2048, 8, 4, 64, 64.0)
# VmHWM is the peak of this process alone (ru_maxrss would inherit the peak of the one that forks).
CHILD = """
import json, sys
from pathlib import Path
import jax
from grm_jax.models.hf import load_folder, save_folder

def kib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

jax.block_until_ready(jax.numpy.zeros(3) + 1)
before = kib("VmRSS:")
model, params = jax.block_until_ready(load_folder(sys.argv[1]))
loaded = kib("VmHWM:") - before
save_folder(model, params, sys.argv[2])
print(json.dumps([1024 * loaded, 1024 * (kib("VmHWM:") - before)]))
"""


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc"
)


@needs_proc
@pytest.mark.slow
def test_peak_memory_is_near_one_copy(tmp_path):
    model = Model(CONFIG)
    weights = sum(4 * leaf.size for leaf in jax.tree.leaves(model.abstract()))
    assert weights > 200e6
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5, leaf.dtype), model.abstract())
    save_folder(model, params, tmp_path / "in")
    del params
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "in", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loading, exporting = json.loads(done.stdout)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "in" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()
    shutil.rmtree(tmp_path)  # half a gigabyte
    assert loading > 0.9 * weights  # the measure sees the one copy
    assert loading < 1.5 * weights
    assert exporting < 1.5 * weights


# A CPU has no bfloat16 arithmetic: XLA turns the weights into f32, and without this keeps such a
# copy of all of them, for each of the eight devices, from the first token to the last. Accelerators
# multiply bfloat16 as it is.
LAYER_BY_LAYER = "--xla_disable_hlo_passes=while-loop-invariant-code-motion"
ROUNDTRIP = Path(__file__).with_name("hf_roundtrip.py")


def run(*arguments):
    flags = f"{os.environ['XLA_FLAGS']} {LAYER_BY_LAYER}"
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, ROUNDTRIP, *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same_tensors(ours, theirs):
    ours, theirs = survey(ours), survey(theirs)
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert (tensor.dtype, tensor.shape) == (theirs[name].dtype, theirs[name].shape)
        everything = (slice(None),) * len(tensor.shape)
        a, b = tensor.read(everything), theirs[name].read(everything)
        assert np.array_equal(a.view(np.uint16), b.view(np.uint16)), name


def round_trip(folder, size):
    """Writes, judges and exports; the size of the weights in bytes, and what was measured."""
    try:
        run("write", size, folder / "in")
        report = json.loads(run("judge", folder / "in", folder / "out"))
        print(report)
        assert report["devices"] == 8
        assert report["tokens"] == [4]
        assert_same_tensors(folder / "in", folder / "out")
        return sum(file.stat().st_size for file in (folder / "in").glob("*.safetensors")), report
    finally:
        shutil.rmtree(folder)


@needs_proc
@pytest.mark.slow
def test_devices_with_the_same_part_share_it(tmp_path):
    """On data=2, tensor=4 each weight lies on two devices, and in memory once."""
    weights, report = round_trip(tmp_path, "small")
    assert weights > 400e6
    assert 0.9 * weights < report["loaded"] - report["before"] < 1.1 * weights
    # XLA itself takes a few hundred MB to compile; f32 copies would be 1.8 GB per data group.
    assert report["exported"] - report["before"] < 1.5 * weights + 500e6


@needs_proc
@pytest.mark.big
def test_a_2b_folder_is_loaded_judges_and_is_exported_in_one_and_a_half_its_size(tmp_path):
    """The whole process, with XLA and all libraries."""
    weights, report = round_trip(tmp_path, "2b")
    assert weights > 5.2e9
    for part in ("loaded", "judged", "exported"):
        assert report[part] < 1.5 * weights, part
