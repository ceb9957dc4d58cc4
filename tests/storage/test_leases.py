"""Locks in a bucket: one holder, whoever comes at the same time, and a dead one is replaced."""

import json
import subprocess
import sys
import uuid

import pytest

from grm_jax import leases
from grm_jax.leases import Lease, TakenOver
from grm_jax.places import Place


@pytest.fixture
def folder():
    return Place(f"memory://{uuid.uuid4().hex}/.lock")


@pytest.fixture
def naps(monkeypatch):
    """What happens while somebody looks for a sign of life, which takes no time here."""
    happens = []
    monkeypatch.setattr(leases.time, "sleep", lambda seconds: [one() for one in happens])
    return happens


def taken(folder, name="out"):
    lease = Lease(folder, name)
    lease.take()
    return lease


def left_behind(folder, **facts):
    """The lock of a holder that is no more; what it says of itself, but for `facts`."""
    lease = taken(folder)
    (name,) = folder.files()
    held = json.loads((folder / name).read() or b"") | facts
    (folder / name).write(json.dumps(held).encode())
    return lease, held


def test_a_second_holder_is_refused_until_the_first_is_done(folder):
    first = taken(folder)
    with pytest.raises(ValueError, match=r"another process is writing out \(process \d+ on .*lock"):
        taken(folder)
    first.beat()
    first.release()
    assert not folder.files()
    taken(folder).release()


def test_a_process_of_this_machine_that_has_ended_is_replaced_at_once(folder, naps, capsys):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    naps.append(lambda: pytest.fail("nothing to wait for"))
    left_behind(folder, process=ended.pid)
    lease = taken(folder)
    assert len(folder.files()) == 1
    assert "has ended without saying so" in capsys.readouterr().err
    lease.beat()


def test_the_number_of_a_process_that_ended_may_be_another_ones(folder, naps):
    left_behind(folder, born="0")  # of this process, which was born later
    taken(folder)


def test_a_silent_holder_on_another_machine_is_replaced_and_told(folder, naps):
    first, _ = left_behind(folder, machine="another")
    seen = []
    naps.append(lambda: seen.append(1))
    second = taken(folder)
    assert len(seen) == 2 * leases.LEASE  # as long as so many beats
    with pytest.raises(TakenOver, match="taken over by another process"):
        first.beat()
    second.beat()


def test_a_holder_on_another_machine_that_beats_is_not(folder, naps):
    first, held = left_behind(folder, machine="another")

    def beat():
        held["beats"] += 1
        (folder / next(iter(folder.files()))).write(json.dumps(held).encode())

    naps.append(beat)
    with pytest.raises(ValueError, match="another process is writing out"):
        taken(folder)
    assert len(folder.files()) == 1
    first.beat()


def test_of_two_that_find_a_dead_holder_one_succeeds(folder, naps, monkeypatch):
    left_behind(folder, born="0")
    create, others = Place.create, []

    def late(place, content):
        """Somebody else is quicker."""
        monkeypatch.setattr(Place, "create", create)
        others.append(taken(folder, "the same"))
        return create(place, content)

    monkeypatch.setattr(Place, "create", late)
    with pytest.raises(ValueError, match="another process is writing out"):
        taken(folder)
    others[0].beat()


def test_a_lock_that_is_older_than_what_one_has_seen_is_not_overlooked(folder, naps, monkeypatch):
    """While one looks, the dead holder's lock is replaced, given back, and taken by a third."""
    left_behind(folder, born="0")
    create, others = Place.create, []

    def late(place, content):
        monkeypatch.setattr(Place, "create", create)
        taken(folder, "the second").release()
        others.append(taken(folder, "the third"))
        return create(place, content)

    monkeypatch.setattr(Place, "create", late)
    with pytest.raises(ValueError, match="another process is writing out"):
        taken(folder)
    others[0].beat()
