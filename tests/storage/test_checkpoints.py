"""Checkpoints in a bucket: whole or not there, and what was damaged later is found."""

import asyncio
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grm_jax.places import Place, path_of
from grm_jax.train.checkpoint import BROKEN, Checkpoints, load_params
from grm_jax.train.checksums import CHECKSUMS
from grm_jax.train.config import CheckpointConfig
from grm_jax.train.state import TrainState


def state(step):
    full = {"w": jnp.arange(64, dtype=jnp.float32) + step}
    return TrainState(jnp.int32(step), full, {"m": jnp.ones(3)})


def abstract():
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)  # noqa: E731
    return jax.tree.map(shape, state(0))


def open_at(address):
    return Checkpoints(path_of(address), CheckpointConfig(every=2, keep=2))


@pytest.fixture
def slow_removal(runs, monkeypatch):
    """What is removed goes so late that who does not wait for it sees it."""
    import gcsfs  # it reads the environment, which is the bucket's by now

    remove = gcsfs.GCSFileSystem._rm_file

    async def late(*args, **options):
        await asyncio.sleep(0.1)
        await remove(*args, **options)

    monkeypatch.setattr(gcsfs.GCSFileSystem, "_rm_file", late)


@pytest.mark.slow
@pytest.mark.usefixtures("slow_removal")
def test_in_a_bucket_as_in_a_folder(runs, capsys):
    address = f"{runs}/one/checkpoints"
    place = Place(address)
    with open_at(address) as checkpoints:
        assert checkpoints.latest is None
        for step in (2, 4, 6):
            checkpoints.save(step, state(step))
    steps = {name.split("/")[0] for name in place.files() if name.split("/")[0].isdigit()}
    assert steps == {"4", "6"}  # the last two are kept
    with open_at(address) as checkpoints:
        assert checkpoints.latest == 6
        found = checkpoints.restore(abstract())
    np.testing.assert_array_equal(found.params["w"], state(6).params["w"])

    # One that a kill left unfinished, and one that was damaged later.
    for name, content in ((name, (place / name).read()) for name in place.files()):
        if name.startswith("6/") and not name.endswith("commit_success.txt"):
            (place / f"8{name[1:]}").write(content or b"")
    sums = json.loads((place / "6" / CHECKSUMS).read() or b"")["files"]
    assert all("stored" in one or "sha256" in one for one in sums.values())
    data = next(name for name, one in sums.items() if one.get("bytes", 0) > 64)
    whole = (place / "6" / data).read() or b""
    (place / "6" / data).write(whole[:-1] + bytes([whole[-1] ^ 1]))
    params = load_params(path_of(address), abstract().params)
    np.testing.assert_array_equal(params["w"], state(4).params["w"])
    assert f"holds something else in {data}" in capsys.readouterr().err
    with open_at(address) as checkpoints:
        assert not [name for name in place.files() if name.startswith(("6/", "8/"))]
        assert checkpoints.latest == 4
    assert (place / BROKEN / "6" / data).read()
    (place / "4" / data).remove()
    with pytest.raises(ValueError, match="no checkpoint is intact"):
        open_at(address)
