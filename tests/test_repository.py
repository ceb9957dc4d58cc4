"""The promises that the repository makes about itself."""

import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import grm_jax
from grm_jax.models import layers

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]


def machine(python: str) -> dict[str, str]:
    """What the markers of requirements say of a Linux machine with this Python."""
    return {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
    }


def pinned_version(name: str, python: str) -> str:
    """The one version of a package that a Linux machine with this Python installs."""
    versions = [
        next(iter(pin.specifier)).version
        for pin in PINS
        if canonicalize_name(pin.name) == name
        and (pin.marker is None or pin.marker.evaluate(machine(python)))
    ]
    assert len(versions) == 1, f"{name} has {len(versions)} pins for Python {python}"
    return versions[0]


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
@pytest.mark.parametrize("extra", ["runtime", *PROJECT["optional-dependencies"]])
def test_every_dependency_is_pinned_to_a_version_it_allows(python, extra):
    lines = (
        PROJECT["dependencies"] if extra == "runtime" else PROJECT["optional-dependencies"][extra]
    )
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if name == "grm-jax" or not (
            requirement.marker is None or requirement.marker.evaluate(machine(python))
        ):
            continue
        version = pinned_version(name, python)
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}: {version}"
        )


def test_pins_are_plain_versions():
    for pin in PINS:
        assert pin.url is None, str(pin)
        assert [specifier.operator for specifier in pin.specifier] == ["=="], str(pin)


def test_version_is_importable_and_plain():
    assert re.fullmatch(r"\d+\.\d+\.\d+", grm_jax.__version__)


def test_tests_see_eight_devices():
    assert jax.device_count() == 8


def test_annotated_shapes_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        layers.rms_norm(jnp.ones((2, 3)), jnp.ones(4), 1e-6)
