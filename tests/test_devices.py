"""Which devices a command computes on, in a line."""

import jax
import pytest

from grm_jax.devices import describe_devices, say_devices
from grm_jax.mesh import MeshConfig


class Card:
    """A device with a name of its own."""

    platform, device_kind = "gpu", "NVIDIA H100 80GB HBM3"


def test_one_device_or_those_of_the_meshes(capsys) -> None:
    assert len(jax.devices()) == 8
    assert describe_devices(None) == "CPU: 1 of 8 devices"
    whole = "CPU: 8 devices, mesh data=1 fsdp=8 tensor=1"
    assert describe_devices(MeshConfig()) == whole
    # Stages of a run, of which two have the same.
    meshes = MeshConfig(), MeshConfig(data=2, fsdp=4), MeshConfig(fsdp=8)
    assert describe_devices(*meshes) == f"{whole}, mesh data=2 fsdp=4 tensor=1"
    say_devices(MeshConfig())
    assert capsys.readouterr().err == f"Computing on {whole}.\n"


def test_a_device_with_a_name_has_it_said(monkeypatch) -> None:
    monkeypatch.setattr(jax, "devices", lambda: [Card()])
    assert describe_devices(None) == "GPU: 1 x NVIDIA H100 80GB HBM3"
    monkeypatch.setattr(jax, "devices", lambda: [Card()] * 4)
    assert describe_devices(None) == "GPU: 1 of 4 x NVIDIA H100 80GB HBM3"


def test_a_mesh_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs 3 devices, but 8 are here"):
        describe_devices(MeshConfig(fsdp=3))
