"""Outputs in a bucket: a command writes to a copy on this machine, and what it writes follows.

A bucket cannot append, lock, or rename a folder (`places`); so a command writes to a copy in the
temporary folder, as it writes anywhere, and every few seconds what is new there is carried over
(`mirrors`). A lock in the bucket keeps other processes out (`leases`). After a kill the same
command goes on from what was carried over.

Checkpoints are no part of the copy: they may be larger than the disk, and every process of a job
writes its own part of them. Orbax writes them to the bucket itself, see `kept_at`.
"""

from __future__ import annotations

import _thread
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from grm_jax.leases import BEAT, Lease, TakenOver
from grm_jax.mirrors import Mirror
from grm_jax.places import Place, Where, new_copy, path_of
from grm_jax.processes import from_first, is_first, say, several, wait

EVERY = 10.0  # seconds from the end of carrying over to the next time
CHECKPOINTS = "gs://"  # what TensorStore, which writes them, can open

_OPEN: dict[Path, WorkingCopy] = {}  # by the path of the copy
Admit = Callable[[Collection[str]], None]


@contextmanager
def working_copy(address: str, *, file: bool = False, admit: Admit | None = None) -> Iterator[Path]:
    """Holds an output in a bucket; gives the path of its copy, which has what is there already.

    In a job of several processes all must enter; only what the first one writes is carried over.

    Args:
        file: the output is a file, with those beside it whose names begin with its own and a dot.
        admit: is given the names of the files that are there before they are read, and raises a
            ValueError where the output is not ours.

    Raises:
        ValueError: another process is writing it, or the bucket cannot be read or written.
    """
    path = new_copy(address)
    (path.parent if file else path).mkdir(exist_ok=True)
    copy = WorkingCopy(Mirror(Place(address), path, file), file)
    try:
        from_first(lambda: copy.open(admit))
        if not is_first():
            copy.mirror.pull()
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    _OPEN[path] = copy
    try:
        yield path
    finally:
        del _OPEN[path]
        try:
            if is_first():
                copy.close()
        except ValueError:
            say(f"What could not be carried over to {address} is kept in {path.parent}.")
            raise
        shutil.rmtree(path.parent, ignore_errors=True)


def kept_at(folder: Path) -> Where:
    """Where a folder of checkpoints lies: if it would be in a copy its address, else itself.

    Raises:
        ValueError: they cannot be written to an address of this kind.
    """
    for path, copy in _OPEN.items():
        if folder.is_relative_to(path):
            address = (copy.mirror.place / folder.relative_to(path).as_posix()).address
            if not address.startswith(CHECKPOINTS):
                raise ValueError(
                    f"checkpoints cannot be written to {address}: give an output that begins with "
                    f"{CHECKPOINTS}, or a folder."
                )
            return path_of(address)
    return folder


def carry_over() -> None:
    """Carries over at once what is new in open copies (in the first process). What a run has
    written before a checkpoint is to be in the bucket before it.

    Raises:
        ValueError: another process has taken the output over, or the bucket cannot be written.
    """
    for copy in _OPEN.values() if is_first() else ():
        copy.push()


def share() -> None:
    """A barrier: files that the first process wrote before it are there for all after it."""
    if not (several() and _OPEN):
        return wait()
    from_first(carry_over)
    for copy in () if is_first() else _OPEN.values():
        copy.mirror.pull()
    return None


def move_folder(folder: Path, target: Path) -> None:
    """Renames a folder; one in a copy also in the bucket, with the checkpoints that are there."""
    for path, copy in _OPEN.items():
        if folder.is_relative_to(path):
            copy.move(*(one.relative_to(path).as_posix() for one in (folder, target)))
    folder.rename(target)


class WorkingCopy:
    """An open copy in the first process: its lock is kept, and what is written is carried over."""

    def __init__(self, mirror: Mirror, file: bool):
        self.mirror, place = mirror, mirror.place
        lock = place.parent / f".{place.name}.lock" if file else place / ".lock"
        self._lease = Lease(lock, str(place))
        self._busy = threading.RLock()  # the mirror is used by the command, too
        self._lost: TakenOver | None = None
        self._trouble = ""  # that was told last
        self._beating = _Repeated(self._beat, BEAT)
        self._following = _Repeated(self._follow, EVERY)

    def open(self, admit: Admit | None) -> None:
        """Takes the lock and copies what is there; from now on what is new is carried over."""
        self._lease.take()
        try:
            if admit is not None:
                admit(self.mirror.names())
            self.mirror.remove(self.mirror.pull())
        except BaseException:
            self._lease.release()
            raise
        self._beating.start()
        self._following.start()

    def close(self) -> None:
        """Carries over what is left and gives the lock back."""
        self._following.end()
        try:
            self.push(last=True)
        finally:
            self._beating.end()
            if self._lost is None:
                self._lease.release()

    def push(self, last: bool = False) -> None:
        """As `Mirror.push`.

        Raises:
            ValueError: another process has taken the output over, or the bucket cannot be written.
        """
        with self._busy:
            if self._lost is not None:
                raise self._lost
            self.mirror.push(last)

    def move(self, folder: str, target: str) -> None:
        """As `Mirror.move`, of what is there now."""
        with self._busy:
            self.push()
            self.mirror.move(folder, target)

    def _beat(self) -> None:
        """Says that this process is alive; where the lock is lost, stops it as Ctrl-C does."""
        try:
            if self._lost is None:
                self._lease.beat()
        except TakenOver as error:
            self._lost = error
            say(str(error))
            _thread.interrupt_main()
        except ValueError as error:
            self._tell(error)

    def _follow(self) -> None:
        try:
            self.push()
        except ValueError as error:  # it is tried again; if it stays so, `close` raises it
            self._tell(error)

    def _tell(self, error: ValueError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            say(self._trouble)


class _Repeated:
    """Work that a thread does again and again, until it is ended."""

    def __init__(self, work: Callable[[], None], pause: float):
        self._work, self._pause = work, pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Lets it finish what it is doing."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            self._work()
