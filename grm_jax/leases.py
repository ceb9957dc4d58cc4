"""Locks in a bucket, which has none of its own: an object that its holder writes again and again.

Locks are numbered objects in a folder, and whoever holds the highest holds the output. An object
is created only if there is none, so of several processes one succeeds. A holder that was killed
leaves its object behind. It is known to be dead if its process is gone from this machine, or, on
another one, if the object does not change for as long as several beats take; the next number is
then free. No clock is compared with another machine's.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grm_jax.places import Place
from grm_jax.processes import say

BEAT = 10.0  # seconds between two beats of a holder
LEASE = 6  # a holder that is silent for so many beats is dead


class TakenOver(ValueError):
    """Another process has taken the lock."""


class Lease:
    """The lock of an output.

    Args:
        folder: where its objects are.
        output: what is locked, for messages.
    """

    def __init__(self, folder: Place, output: str):
        self._folder, self._output = folder, output
        self._object: Place | None = None
        self._facts: dict[str, Any] = {}

    def take(self) -> None:
        """Takes the lock.

        Raises:
            ValueError: another process has it.
        """
        if not self._folder.can_lock:
            say(
                f"{self._output} is where there are no locks: make sure yourself that no other "
                "process writes there."
            )
        before = self._others()
        number = max(before, default="0")
        if before and (holder := before[number]) is not None:
            self._check_dead(self._folder / number, holder)
            say(
                f"{self._output}: the process that wrote it has ended without saying so "
                f"({_who(holder)}); going on from what it has saved."
            )
        self._facts = {**_identity(), "began": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}
        self._facts |= {"beats": 0, "key": uuid.uuid4().hex}
        taken = self._folder / f"{int(number) + 1:06d}"
        if not taken.create(self._text()):
            raise ValueError(self._refusal(taken, _facts(taken.read())))
        self._object = taken
        # Somebody may have come since we looked, who found no lock or another one.
        now = {name: facts for name, facts in self._others().items() if facts is not None}
        if new := [name for name, facts in now.items() if before.get(name) != facts]:
            self.release()
            raise ValueError(self._refusal(self._folder / max(new), now[max(new)]))
        for name in now:
            (self._folder / name).remove()

    def beat(self) -> None:
        """Says that the holder is alive.

        Raises:
            TakenOver: another process has taken the lock, because it saw no sign of life.
            ValueError: the bucket cannot be read or written.
        """
        assert self._object is not None
        held = _facts(self._object.read())
        if held is None or held["key"] != self._facts["key"] or self._others(above=True):
            raise TakenOver(
                f"{self._output} has been taken over by another process, which saw no sign of life "
                f"of this one for {LEASE * BEAT:.0f} s: this one stops."
            )
        self._facts["beats"] += 1
        self._object.write(self._text())

    def release(self) -> None:
        """Gives the lock back."""
        if self._object is not None:
            self._object.remove()
            self._object = None

    def _others(self, above: bool = False) -> dict[str, dict[str, Any] | None]:
        """What the other objects say, by their numbers; only those `above` ours."""
        own = "" if self._object is None else self._object.name
        names = [name for name in self._folder.files() if name.isdigit() and name != own]
        wanted = [name for name in names if not above or name > own]
        return {name: _facts((self._folder / name).read()) for name in wanted}

    def _check_dead(self, held: Place, holder: dict[str, Any]) -> None:
        """Raises ValueError unless the holder is dead; looks for a while if it is elsewhere."""
        if holder.get("machine") == _identity()["machine"]:
            if _is_running(holder):
                raise ValueError(self._refusal(held, holder))
            return
        say(
            f"{held} says that {_who(holder)} is writing {self._output}: looking for "
            f"{LEASE * BEAT:.0f} s whether it is alive."
        )
        for _ in range(2 * LEASE):
            time.sleep(BEAT / 2)
            if (now := _facts(held.read())) is None:
                return
            if now != holder:
                raise ValueError(self._refusal(held, now))

    def _refusal(self, held: Place, holder: dict[str, Any] | None) -> str:
        return (
            f"another process is writing {self._output} ({_who(holder)}; its lock is {held}): wait "
            "until it has ended, or name another output."
        )

    def _text(self) -> bytes:
        return json.dumps(self._facts).encode()


def _facts(content: bytes | None) -> dict[str, Any] | None:
    """What a lock says of its holder; None where there is no lock of ours."""
    try:
        facts = None if content is None else json.loads(content)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and "key" in facts else None


def _who(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "its name is not known"
    return f"process {holder.get('process')} on {holder.get('host')}, since {holder.get('began')}"


def _identity() -> dict[str, Any]:
    """This process, and the machine that can say whether it is running: the same boot of the same
    kernel, and the same container."""
    own = {"host": socket.gethostname(), "process": os.getpid(), "machine": uuid.uuid4().hex}
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        own["machine"] = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: unlike any other, so that the lock is watched
        pass
    return own | {"born": _born(os.getpid())}


def _is_running(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine is still there, and no other that got its number."""
    born = _born(holder["process"])
    return born is not None and born == holder.get("born")


def _born(process: int) -> str | None:
    """When a process began, in ticks since the machine did; None where there is none."""
    try:
        # The name, in parentheses, may hold spaces. A zombie has ended.
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]
