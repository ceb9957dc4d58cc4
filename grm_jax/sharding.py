"""Meshes and rules: which named dimension of an array lies along which axis of the devices.

Weights and activations carry axis *names* ("embed", "heads", ...). A rule table maps a name to
a mesh axis, and `shardings_of` turns a tree of names into a tree of `NamedSharding`. Training
and decoding use two tables over the same weights; `jax.device_put` moves between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from grm_jax.mesh import MeshConfig

AxisNames = tuple[str | None, ...]
Rules = Mapping[str, str | tuple[str, ...] | None]

MESH_AXES = ("data", "fsdp", "tensor")
STACK = "layers"  # names the dimension over which the weights of layers are stacked: never split

# Batches over data and fsdp; weights over fsdp by their model dimension, or where a latent vector
# takes its place by that one's (`rank`), over tensor by the other.
# `rows` and `vocab_parts` are for the embedding and the logits, where rows meet the vocabulary.
TRAIN_RULES: Rules = {
    "batch": ("data", "fsdp"),
    "rows": "data",
    "vocab_parts": ("fsdp", "tensor"),
    "embed": "fsdp",
    "rank": "fsdp",
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "expert": "tensor",
}

# Decoding reads every weight once per token, so no weight is gathered: only `tensor` splits them.
DECODE_RULES: Rules = {**TRAIN_RULES, "embed": None, "rank": None}


def make_mesh(shape: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """Builds the (data, fsdp, tensor) mesh over `devices` (default: all of this job).

    Where they belong to several slices, one slice after the other lies along `data`, so that only
    gradients cross the slow network between them (DCN); fsdp and tensor stay inside a slice (ICI).

    Raises:
        ValueError: the sizes do not multiply to the number of devices, or the number of slices
            does not divide `data`.
    """
    devices = jax.devices() if devices is None else devices
    sizes = data, fsdp, tensor = _fill(shape, len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})  # a CPU has none
    if data % slices:
        raise ValueError(
            f"mesh {_spell(sizes)}: these {len(devices)} devices are {slices} slices, and only "
            f"data may reach over more than one: set data to a multiple of {slices}."
        )
    # A torus without an axis of the asked size is split; where one fits, it is taken whole.
    if slices == 1:
        grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(
            (data // slices, fsdp, tensor),
            (slices, 1, 1),
            devices,
            allow_split_physical_axes=True,
        )
    # Auto, not the default Explicit: the compiler places what we do not constrain.
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _fill(shape: MeshConfig, devices: int) -> tuple[int, int, int]:
    """The sizes with -1 resolved, checked against the number of devices."""
    sizes = (shape.data, shape.fsdp, shape.tensor)
    if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise ValueError(
            f"mesh {_spell(sizes)}: sizes must be 1 or more, and at most one may be -1 (the rest)."
        )
    known = math.prod(size for size in sizes if size != -1)
    if devices % known or (-1 not in sizes and known != devices):
        raise ValueError(
            f"mesh {_spell(sizes)} needs {'a multiple of ' if -1 in sizes else ''}{known} devices, "
            f"but {devices} are here: change data, fsdp or tensor, or set one of them to -1."
        )
    data, fsdp, tensor = (devices // known if size == -1 else size for size in sizes)
    return data, fsdp, tensor


def _spell(sizes: tuple[int, int, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in zip(MESH_AXES, sizes, strict=True))


def spec_for(axes: AxisNames, rules: Rules) -> PartitionSpec:
    """The PartitionSpec of an array whose dimensions are named `axes`."""
    return PartitionSpec(*(None if name is None else rules.get(name) for name in axes))


def shardings_of(axes_tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """A tree of NamedSharding with the structure of `axes_tree` (leaves: tuples of axis names)."""
    return jax.tree.map(
        lambda axes: NamedSharding(mesh, spec_for(axes, rules)), axes_tree, is_leaf=_is_axes
    )


def _is_axes(node: Any) -> bool:
    """Whether a node is the names of one array's dimensions, and not a tuple of such."""
    return isinstance(node, tuple) and all(name is None or isinstance(name, str) for name in node)


def check_divisible(abstract_tree: Any, axes_tree: Any, mesh: Mesh, rules: Rules) -> None:
    """Refuses a mesh that does not divide the weights, in a sentence.

    Raises:
        ValueError: names the dimension, its size, the mesh axis and its size.
    """

    def check(path: Any, leaf: Any, axes: AxisNames) -> None:
        for name, size in zip(axes, leaf.shape, strict=True):
            target = None if name is None else rules.get(name)
            targets = (target,) if isinstance(target, str) else (target or ())
            ways = 1
            for axis in targets:
                ways *= mesh.shape[axis]
            if size % ways:
                raise ValueError(
                    f"{jax.tree_util.keystr(path)}: the {name} dimension has {size} entries, which "
                    f"{'x'.join(targets)}={ways} does not divide; choose a mesh axis of at most "
                    f"{size} that divides it."
                )

    jax.tree_util.tree_map_with_path(check, abstract_tree, axes_tree)


def constrain(x: jax.Array, axes: AxisNames, rules: Rules = TRAIN_RULES) -> jax.Array:
    """Pins an activation to the rules when a mesh is set (`jax.set_mesh`); otherwise returns it.

    A dimension that the devices cannot share evenly is kept whole on each.

    Without these pins at the embedding, at block entry and on logits XLA chooses to
    rematerialise whole activations on every device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    held = (
        name if name and divides(name, size, rules) else None
        for name, size in zip(axes, x.shape, strict=True)
    )
    return jax.lax.with_sharding_constraint(x, spec_for(tuple(held), rules))


def where_it_lies(x: jax.Array) -> jax.Array:
    """The same array, which stays where it lies on the mesh, whatever its user needs.

    What a `jax.shard_map` wants gathered is otherwise gathered as early as possible: the layers of
    a scan all at once, before the first.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    free = PartitionSpec(*(PartitionSpec.UNCONSTRAINED,) * x.ndim)
    return jax.lax.with_sharding_constraint(x, free)


def divides(name: str, size: int, rules: Rules = TRAIN_RULES) -> bool:
    """Whether the devices along a named dimension share `size` entries evenly, on the mesh set."""
    mesh, target = jax.sharding.get_abstract_mesh(), rules.get(name)
    if mesh.empty or target is None:
        return True
    targets = (target,) if isinstance(target, str) else target
    return size % math.prod(mesh.shape[axis] for axis in targets) == 0


def for_tpu() -> bool:
    """Whether the program being traced is for a TPU.

    With a mesh set, its devices say so, which need not be here; otherwise the default device. JAX
    traces anew for each mesh, and takes meshes of one shape over two kinds of device for two.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is None:
        return jax.default_backend() == "tpu"
    return device.device_kind.startswith("TPU")
