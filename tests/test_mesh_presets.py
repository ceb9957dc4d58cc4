"""Every preset of configs/mesh is a mesh of the real slices, and divides the models and batches."""

from functools import cache
from pathlib import Path

import pytest

from grm_jax.aot.topology import Topology
from grm_jax.cli.commands import STAGES, AotCommand, JudgeCommand
from grm_jax.cli.options import read_options
from grm_jax.mesh import MeshConfig
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from grm_jax.sharding import DECODE_RULES, TRAIN_RULES, check_divisible, make_mesh
from grm_jax.train.step import check_batch

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "mesh"
ALL = ("2b", "9b", "27b")
HOSTS = ("v5e:2x2", "v5e:2x4", "v5p:2x2x1", "v6e:2x4", "tpu7x:2x2x1")
PODS = ("v5e:16x16", "v5p:4x4x4", "v5p:4x8x8", "v6e:8x8", "v6e:16x16", "tpu7x:4x4x8")
PAIRS = ("v5e:4x4*2", "v5p:4x4x4*2", "v6e:8x8*2", "tpu7x:4x4x4*2")
# For whom a preset is, as its comment says: models, and slices.
USES = {
    "train": (ALL, (*HOSTS, *PODS)),
    "train_2_slices": (ALL, PAIRS),
    "grpo": (ALL, (*HOSTS, *PODS)),
    "decode_4": (ALL, (*HOSTS, *PODS, *PAIRS)),
    "decode_8": (("9b", "27b"), ("v5e:2x4", "v6e:2x4", "tpu7x:2x2x1", *PODS, *PAIRS)),
    "decode_16": (("27b",), ("v5e:4x4", "v5p:2x2x4", "tpu7x:2x2x2", *PODS, *PAIRS)),
}


def read(component, option, *arguments):
    return read_options(component, [*arguments, *option], "command")


def preset(name, *more):
    option = ("--mesh", str(FOLDER / f"{name}.yaml"), *more)
    mesh = read(JudgeCommand, option).mesh
    assert isinstance(mesh, MeshConfig)
    return mesh


@cache
def weights(size):
    model = Model(PRESETS[size])
    return model.abstract(), model.axes()


def check(shape, sizes, topology, rules):
    mesh = make_mesh(shape, Topology(topology).devices())
    for size in sizes:
        check_divisible(*weights(size), mesh, rules)
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    for rows in (512, 1024):
        check_batch(rows, rows // ways, mesh)


def test_every_preset_has_its_use_tested():
    assert {path.stem for path in FOLDER.iterdir()} == set(USES)


@pytest.mark.parametrize("name", USES)
def test_a_preset_divides_the_slices_the_models_and_the_papers_batches(name):
    sizes, topologies = USES[name]
    rules = DECODE_RULES if name.startswith("decode") else TRAIN_RULES
    for topology in topologies:
        check(preset(name), sizes, topology, rules)


@pytest.mark.parametrize("topology", ["v5e:8x8*2", "v5p:2x2x4*4", "tpu7x:2x2x4*4"])
@pytest.mark.parametrize("name", ["train_2_slices", "grpo"])
def test_data_is_raised_for_more_slices_as_the_comments_say(name, topology):
    slices = topology.partition("*")[2]
    check(preset(name, "--mesh.data", slices), ALL, topology, TRAIN_RULES)


@pytest.mark.parametrize(
    ("component", "arguments", "option", "mesh"),
    [
        (JudgeCommand, (), "--mesh", lambda c: c.mesh),
        (AotCommand, (), "--mesh", lambda c: c.mesh),
        (STAGES, ("rft",), "--compute.mesh", lambda c: c[1].compute.mesh),
        (STAGES, ("spct",), "--grpo.compute.mesh", lambda c: c[1].grpo.compute.mesh),
    ],
)
def test_commands_take_a_preset_by_its_path(component, arguments, option, mesh):
    given = read(component, (option, str(FOLDER / "grpo.yaml")), *arguments)
    assert mesh(given) == MeshConfig(1, -1, 4)
