"""A program saved by one process gives another the same numbers, and is refused elsewhere."""

import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.aot.programs import build
from grm_jax.aot.saved import load_program, save_program
from grm_jax.aot.topology import Topology
from grm_jax.aot.work import Work
from grm_jax.judging.rater import rate
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.sharding import DECODE_RULES, make_mesh, shardings_of

SHAPE = MeshConfig(4, 1, 2)
# What the process that loads does: the same arguments as `arguments` makes, and no tracing.
LOAD = """
import sys, numpy as np
from pathlib import Path
from tests.aot.test_saved import arguments
from grm_jax.aot.saved import load_program
out = load_program(Path(sys.argv[1]))(*arguments())
np.save(sys.argv[2], np.asarray(out))
"""


def arguments():
    model = Model(PRESETS["tiny"], "scalar", "bfloat16", "bfloat16")
    mesh = make_mesh(SHAPE)
    places = shardings_of(model.axes(), mesh, DECODE_RULES)
    params = jax.jit(model.init, out_shardings=places)(jax.random.key(0))
    batch = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
    tokens = np.random.default_rng(0).integers(0, 500, (8, 63)).astype(np.int32)
    positions = np.broadcast_to(np.arange(63, dtype=np.int32), (8, 63))
    none = np.zeros((8, 1, 1), np.int32)
    return params, *(jax.device_put(x, batch) for x in (tokens, positions, none, none - 1))


@pytest.mark.slow
def test_another_process_runs_it_with_the_same_result(tmp_path, monkeypatch):
    program = build("meta-score", PRESETS["tiny"], jax.devices(), Work(8, 64), SHAPE)
    with jax.set_mesh(program.mesh):
        compiled = program.lower().compile()
        save_program(tmp_path / "saved" / "program", compiled, program.mesh)
        model = Model(PRESETS["tiny"], "scalar", "bfloat16", "bfloat16")
        expected = jax.jit(rate, static_argnums=0)(model, *arguments())
    result = tmp_path / "result.npy"
    words = [sys.executable, "-c", LOAD, str(tmp_path / "saved" / "program"), str(result)]
    root = Path(__file__).resolve().parents[2]
    child = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert jnp.array_equal(np.load(result), expected)


def test_other_devices_and_versions_are_refused(tmp_path):
    program = build(
        "meta-score", PRESETS["tiny"], Topology("v5e:2x2").devices(), Work(8, 64), MeshConfig(4, 1)
    )
    with jax.set_mesh(program.mesh):
        save_program(tmp_path / "tpu", program.lower().compile(), program.mesh)
    with pytest.raises(ValueError, match=r"devices \{'TPU v5 lite': 4\}, but this is \{'cpu': 8\}"):
        load_program(tmp_path / "tpu")
    made = pickle.loads((tmp_path / "tpu").read_bytes())
    (tmp_path / "old").write_bytes(pickle.dumps({**made, "jax": "0.1.2"}))
    with pytest.raises(ValueError, match=r"for jax 0\.1\.2"):
        load_program(tmp_path / "old")
