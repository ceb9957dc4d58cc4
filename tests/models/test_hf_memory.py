"""The host holds near one copy of the weights, coming in and going out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf import save_folder
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


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc"
)
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
