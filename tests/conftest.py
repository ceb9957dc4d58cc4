"""What every test shares: the JAX set-up, shape checks at run time, and the shared data.

The environment is set before anything imports jax: eight virtual CPU devices, so that the
sharding tests run on any machine; and programs that are compiled quickly, not well, for each runs a
few times only.
"""

import os

from tests.processes import QUICK

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {QUICK}"
).strip()

from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# How long an example takes says more about a shared machine than about the code.
settings.register_profile("grm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("grm")

ROOT = Path(__file__).resolve().parent.parent

# State dataclasses stay out: the hook checks their fields in __init__, and jax.eval_shape and
# friends rebuild them with placeholders that are no arrays.
STATE_MODULES = {"cache", "state", "config"}


# What takes half a minute or more goes first, so that no process is left alone with it at the end.
LONGEST = (
    "test_processes.py",
    "test_share.py",
    "test_spct.py",
    "test_engine.py",
    "test_programs.py",
    "test_aot_command.py",
    "test_sharding.py",
    "test_conformance.py",
    "test_readme.py",
    "test_families.py",
    "test_grpo.py",
    "test_grpo_run.py",
    "test_real_text.py",
    "test_hf_memory.py",
    "test_benchmarks_end_to_end.py",
    "03_spct.ipynb",
    "04_reward.ipynb",
    "05_pod.ipynb",
    "02_scaling.ipynb",
    "01_judge.ipynb",
    "test_sft.py",
    "test_meta_rm.py",
    "test_scalar.py",
    "test_rft.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of LONGEST before the others; `--no-loadscope-reorder` keeps that order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def function_modules() -> list[str]:
    """Names of the modules whose jaxtyping annotations are checked while tests run."""
    return [
        f"grm_jax.{package}.{path.stem}"
        for package in ("models", "sampling", "objectives")
        for path in sorted((ROOT / "grm_jax" / package).glob("*.py"))
        if path.stem not in STATE_MODULES | {"__init__"}
    ]


install_import_hook(function_modules(), "beartype.beartype")


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Programs are kept on disk while the tests run: each test and process needs the same few."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder that all workers share is one above
        base = base.parent
    settings = {
        "jax_compilation_cache_dir": str(base / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))  # for the processes that a test starts
            jax.config.update(name, value)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The read-only data folder beside the checkout; a test that needs it is skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder, which is not at {folder}")
    return folder
