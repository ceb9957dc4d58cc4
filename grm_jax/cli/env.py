"""`grm env`: what is installed, which devices there are, and what would run where."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from grm_jax import __version__
from grm_jax.cli.config import EnvCommand
from grm_jax.cli.programs import programs_folder
from grm_jax.cluster import find_job
from grm_jax.devices import describe_devices
from grm_jax.mesh import MeshConfig
from grm_jax.presets import BUNDLED, PACKAGE, bundled

LIBRARIES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "datasets", "tokenizers"),
    *("numpy", "pyarrow", "transformers"),
)
# The libraries of each extra that a user may want; a test compares them with pyproject.toml.
EXTRAS = {
    "cuda": ("jax-cuda13-plugin",),
    "cuda12": ("jax-cuda12-plugin",),
    "tpu": ("libtpu",),
    "tracking": ("tensorboardX", "wandb"),
    "endpoint": ("openai",),
    "gguf": ("gguf",),
    "int8": ("qwix",),
    "math": ("math-verify",),
    "serve": ("fastapi", "prometheus-client", "uvicorn"),
    "client": ("httpx",),
    "gcs": ("gcsfs",),
}
ONE = "judge, eval, serve, experiment, data math-pairs, bench"
CARDS = Path("/proc/driver/nvidia/gpus")

Facts = dict[str, Any]


def run(command: EnvCommand) -> int:
    """Prints it; 1 if JAX has no device at all."""
    # A look must not take most of a card's memory, which a run beside it may have.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    facts = environment()
    print(json.dumps(facts, indent=2) if command.json else "\n".join(_lines(facts)))
    return 0 if facts["devices"] else 1


def environment() -> Facts:
    """All that is said, in JSON's types; versions and sizes that there are none of are null."""
    devices, notes = _devices()
    return {
        "grm_jax": {"version": __version__, "folder": str(PACKAGE)},
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "extras": {
            extra: {
                "installed": all(map(_version, names)),
                "libraries": {name: _version(name) for name in names},
                "install": f"pip install 'grm-jax[{extra}]'",
            }
            for extra, names in EXTRAS.items()
        },
        "devices": devices,
        "runs_on": {
            ONE: describe_devices(None),
            "train": describe_devices(MeshConfig()),
        }
        if devices
        else {},
        "programs": _programs(),
        "models": {name: _bytes(bundled(name)) for name in BUNDLED if bundled(name).is_dir()},
        "notes": notes + _job_notes() + [*card_notes(nvidia_cards(), devices)],
    }


def nvidia_cards() -> list[str]:
    """The names of this machine's NVIDIA cards, as their driver has them; none without a driver."""
    cards = []
    for file in sorted(CARDS.glob("*/information")):
        named = (line for line in file.read_text().splitlines() if line.startswith("Model:"))
        cards += [line.partition(":")[2].strip() for line in named]
    if cards or shutil.which("nvidia-smi") is None:
        return cards
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return asked.stdout.split("\n")[:-1] if asked.returncode == 0 else []


def card_notes(cards: Sequence[str], devices: Sequence[Facts]) -> Iterator[str]:
    """Why JAX does not use the NVIDIA cards that there are, and what to do."""
    if not cards or any(device["platform"] == "gpu" for device in devices):
        return
    names = ", ".join(f"{n} x {name}" for name, n in Counter(cards).items())
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if not any(map(find_spec, ("jax_cuda13_plugin", "jax_cuda12_plugin"))):
        why = "JAX is installed for CPUs only: pip install 'grm-jax[cuda]'"
    elif chosen and not {"cuda", "gpu"} & set(chosen.split(",")):
        why = f"JAX_PLATFORMS is {chosen!r}, which leaves them out: unset it"
    else:
        why = (
            "JAX's CUDA plugin does not find them. CUDA 13 needs a driver of version 580 or newer, "
            "and CUDA 12 (pip install 'grm-jax[cuda12]') one of 525; nvidia-smi shows yours"
        )
    yield f"This machine has {names}, but {why}."


def _devices() -> tuple[list[Facts], list[str]]:
    """The devices by kind, and why there are none."""
    try:
        devices = jax.devices()
    except RuntimeError as error:
        return [], [f"JAX has no device: {error}."]
    counts = Counter((device.platform, device.device_kind) for device in devices)
    first = {(device.platform, device.device_kind): device for device in reversed(devices)}
    return [
        {"platform": key[0], "kind": key[1], "count": count, "memory_bytes": _memory(first[key])}
        for key, count in counts.items()
    ], []


def _memory(device: Any) -> int | None:
    """The bytes that JAX may take of a device; None where it does not say."""
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except jax.errors.JaxRuntimeError:
        return None


def _job_notes() -> list[str]:
    try:
        job = find_job()
    except ValueError as error:
        return [str(error)]
    if job is None:
        return []
    return [
        "The environment names a job of several processes: judge, eval, train and experiment join "
        "it, and have the devices of all. Those here are one process's."
    ]


def _programs() -> Facts:
    """The cache of compiled programs: its folder (None: nothing is kept), files and bytes."""
    folder = programs_folder()
    if folder is None or "://" in folder:
        return {"folder": folder, "files": None, "bytes": None}
    files = [*Path(folder).glob("*")]
    return {"folder": folder, "files": len(files), "bytes": _bytes(Path(folder))}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _lines(facts: Facts) -> Iterator[str]:
    """The facts for people."""
    own, programs = facts["grm_jax"], facts["programs"]
    yield f"grm_jax {own['version']} in {own['folder']}"
    yield f"Python {facts['python']}, {facts['system']}, {facts['cores']} cores"
    libraries = facts["libraries"].items()
    yield from _section(
        "Libraries", [(name, found or "not installed") for name, found in libraries]
    )
    extras = facts["extras"].items()
    yield from _section("Extras", [(name, _extra(one)) for name, one in extras])
    yield from _section("Devices", map(_device, facts["devices"]))
    yield from _section("Runs on", facts["runs_on"].items())
    kept = programs["folder"] or "none are kept"
    if programs["files"] is not None:
        kept += f": {programs['files']} files, {_size(programs['bytes'])}"
    yield from _section("Compiled programs", [("kept in", kept)])
    models = facts["models"].items()
    yield from _section("Bundled models", [(name, _size(count)) for name, count in models])
    if facts["notes"]:
        yield "\nNote"
        yield from (f"  {note}" for note in facts["notes"])


def _section(title: str, parts: Iterable[tuple[str, str]]) -> Iterator[str]:
    lines = [*parts]
    yield f"\n{title}"
    width = max((len(name) for name, _ in lines), default=0)
    yield from (f"  {name:<{width}}  {text}" for name, text in lines)


def _device(one: Facts) -> tuple[str, str]:
    memory = "" if one["memory_bytes"] is None else f", {_size(one['memory_bytes'])} each"
    return one["platform"].upper(), f"{one['count']} x {one['kind']}{memory}"


def _extra(one: Facts) -> str:
    """The versions of an extra's libraries, or how to install it."""
    there = ", ".join(f"{name} {found}" for name, found in one["libraries"].items() if found)
    if one["installed"]:
        return there
    return f"{f'only {there}' if there else 'not installed'}: {one['install']}"


def _size(count: int) -> str:
    """Bytes, for people."""
    power = max((p for p in range(4) if count >= 1024**p), default=0)
    return f"{count / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
