"""The processes of one job: joining it, agreeing on values, and which one writes and prints.

Every process runs the same host program on the same input and starts the same device programs in
the same order; it feeds the parts of the arrays that its own devices hold, and all processes get
the same results back. Only the first process writes files and prints. A decision that depends on a
file is made by the first process, which sends it to the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from grm_jax.cluster import find_job
from grm_jax.places import shown

# A process that is silent for so many seconds counts as dead, and the job ends. The default is
# JAX's own; raise it where a machine may stall for longer.
HEARTBEAT = "GRM_HEARTBEAT_SECONDS"


def start() -> None:
    """Joins the job, if this process is one of several. Call it before any use of devices.

    Raises:
        ValueError: the environment describes the job only in part.
    """
    job = find_job()
    if job is None or jax.distributed.is_initialized():
        return
    # It would catch SIGTERM, even where nobody asks it about preemptions; see `Interruption`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        **asdict(job), heartbeat_timeout_seconds=int(os.environ.get(HEARTBEAT, "100"))
    )


def joined() -> bool:
    """Whether this process has joined a job. Does not touch the devices."""
    return jax.distributed.is_initialized()


def is_lost(error: Exception) -> bool:
    """Whether an error means that another process is gone, rather than a fault in this one."""
    codes = ("UNAVAILABLE:", "DEADLINE_EXCEEDED:", "ABORTED:", "CANCELLED:")
    message = str(error)
    return joined() and (message.startswith(codes) or "Gloo " in message or "NCCL" in message)


def several() -> bool:
    """Whether this process is one of several."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line for the user, once per job."""
    if is_first():
        print(shown(text), file=sys.stderr, flush=True)


def from_first(make: Callable[[], Any]) -> Any:
    """Calls `make` in the first process alone, and returns its result in every process.

    It is a barrier, too: files that the first process wrote before it are there for the others
    after it. The result is sent as JSON.

    Raises:
        ValueError: in every process, if `make` raised it.
    """
    if not several():
        return make()
    result: dict[str, Any] = {}
    if is_first():
        try:
            result = {"value": make()}
        except ValueError as error:
            result = {"error": str(error)}
    text = json.dumps(result).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    # Rounded up to a power of two: a program is compiled for every size.
    buffer = np.zeros(1 << max(size - 1, 1).bit_length(), np.uint8)
    if is_first():
        buffer[:size] = np.frombuffer(text, np.uint8)
    result = json.loads(bytes(multihost_utils.broadcast_one_to_all(buffer)[:size]))
    if "error" in result:
        raise ValueError(result["error"])
    return result["value"]


def wait() -> None:
    """A barrier: files that the first process wrote before it are there for all after it."""
    from_first(lambda: None)


def anywhere(flag: bool) -> jax.Array:
    """Whether the flag is set in any process, as a device array that can be read later."""
    mesh = Mesh(np.array(jax.devices()), "devices")
    place = NamedSharding(mesh, PartitionSpec("devices"))
    with jax.set_mesh(mesh):
        flags = jax.make_array_from_callback((mesh.size,), place, lambda _: np.array([flag]))
        return _replicate(jnp.any(flags), mesh)


def spread(tree: Any, place: Sharding) -> Any:
    """Host arrays, the same in every process, as device arrays; each process feeds its own part."""
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, place, lambda index: x[index]), tree
    )


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
    """Device arrays that every process can read: replicated where there are several processes."""
    return _replicate(tree, mesh) if several() else tree


@partial(jax.jit, static_argnums=1)
def _replicate(tree: Any, mesh: Mesh) -> Any:
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def leave(status: int) -> NoReturn:
    """Ends this process, one of several, after an error. Unlike Python's own exit it does not wait
    for the others: they may be waiting for this one, and will end when it is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(2)  # when it ends, so do the others: let them report their errors first
    os._exit(status)
