"""env.sh: what it sets is read by JAX, and what a user has set stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENV = Path(__file__).resolve().parents[2] / "launch" / "env.sh"


def sourced(before):
    """The environment after env.sh, for a process that starts with `before`."""
    command = ["bash", "--norc", "-euo", "pipefail", "-c", f"source {ENV} && env -0"]
    lines = subprocess.check_output(command, env=before, text=True).split("\0")[:-1]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.slow
def test_every_variable_is_an_option_of_jax_and_takes_effect(tmp_path):
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    after = sourced(home)
    added = {name: after[name] for name in after.keys() - home.keys() - {"PWD", "SHLVL", "_"}}
    assert set(added) == {"JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR"}
    options = ", ".join(f"jax.config.{name.lower()}" for name in sorted(added))
    show = f"import jax, json; print(json.dumps([{options}]))"
    seen = json.loads(subprocess.check_output([sys.executable, "-c", show], env=after, text=True))
    assert seen == [added[name] for name in sorted(added)]
    assert Path(added["JAX_COMPILATION_CACHE_DIR"]).is_relative_to(tmp_path)


def test_what_is_set_stays(tmp_path):
    mine = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "JAX_PLATFORMS": "cuda,cpu",
        "JAX_COMPILATION_CACHE_DIR": "/runs/compiled",
        "LIBTPU_INIT_ARGS": "--xla_a_flag_of_mine=true",
    }
    assert sourced(mine).items() >= mine.items()


@pytest.mark.skipif(bool([*Path("/dev").glob("accel*")]), reason="a TPU is here")
def test_no_tpu_is_an_error_and_not_a_slow_run(tmp_path):
    after = sourced({"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    # So that libtpu looks at this machine only, and need not wait for the network.
    after |= {"TPU_SKIP_MDS_QUERY": "1"}
    command = [sys.executable, "-c", "import jax; print(jax.device_count())"]
    result = subprocess.run(command, env=after, capture_output=True, text=True)
    assert result.returncode != 0
    assert "Unable to initialize backend 'tpu'" in result.stderr
