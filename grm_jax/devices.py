"""Which devices a command computes on, in one line for its user."""

from __future__ import annotations

import jax

from grm_jax.mesh import MeshConfig
from grm_jax.processes import say, several
from grm_jax.sharding import make_mesh


def say_devices(*meshes: MeshConfig | None) -> None:
    """Prints, once per job, where a command computes; see `describe_devices`."""
    say(f"Computing on {describe_devices(*meshes)}.")


def describe_devices(*meshes: MeshConfig | None) -> str:
    """The devices that are used, such as "GPU: 2 x NVIDIA H100 80GB HBM3, mesh data=1 fsdp=2
    tensor=1".

    Args:
        meshes: of the command, several if its stages have one each. None: one device, or in a job
            of several processes all of its devices.

    Raises:
        ValueError: a mesh does not fit the devices.
    """
    devices = jax.devices()
    shapes = dict.fromkeys(
        " ".join(f"{name}={size}" for name, size in make_mesh(mesh).shape.items())
        for mesh in meshes
        if mesh is not None
    )
    used = len(devices) if shapes or several() else 1
    count = str(used) if used == len(devices) else f"{used} of {len(devices)}"
    platform, kind = devices[0].platform, devices[0].device_kind
    if kind.lower() == platform:  # a CPU has no name of its own
        named = f"{count} device{'' if count == '1' else 's'}"
    else:
        named = f"{count} x {kind}"
    parts = [f"{platform.upper()}: {named}", *(f"mesh {shape}" for shape in shapes)]
    if several():
        parts.append(f"{jax.process_count()} processes")
    return ", ".join(parts)
