"""Compiled programs on disk: compiled anywhere, loaded on the machine that they are for."""

from __future__ import annotations

import pickle
import pickletools
from collections import Counter
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.sharding import Mesh


def save_program(path: Path, compiled: Any, mesh: Mesh) -> None:
    """Writes a compiled program, with JAX's version and the devices of its mesh."""
    made = {
        "jax": jax.__version__,
        "devices": _kinds(mesh.devices.flat),
        "program": serialize_executable.serialize(compiled),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(made))


def is_program(path: Path) -> bool:
    """Whether a file is such a program, by its first bytes; nothing in it is run."""
    names = []
    with path.open("rb") as file:
        try:
            for operation, value, _ in pickletools.genops(file):
                if isinstance(value, str):
                    names.append(value)
                if len(names) == 3 or operation.name in ("GLOBAL", "STACK_GLOBAL", "REDUCE"):
                    break
        except (ValueError, UnicodeDecodeError):
            return False
    return names[:1] == ["jax"] and names[2:3] == ["devices"]


def load_program(path: Path) -> Any:
    """The program, ready to be called with arrays in the layout that it was compiled for.

    The file is a pickle, which can run any code: load only what you have made yourself.

    Raises:
        ValueError: the version of JAX or the devices are not those that it was compiled for.
    """
    made = pickle.loads(path.read_bytes())
    here = {"jax": jax.__version__, "devices": _kinds(jax.devices())}
    for name, value in here.items():
        if made[name] != value:
            raise ValueError(
                f"{path} was compiled for {name} {made[name]}, but this is {value}: compile it "
                "again with `grm aot --save` for this slice and this version."
            )
    return serialize_executable.deserialize_and_load(*made["program"])


def _kinds(devices: Any) -> dict[str, int]:
    """The number of devices of each kind."""
    return dict(Counter(device.device_kind for device in devices))
