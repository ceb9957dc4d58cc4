"""What ended a command, as a sentence for its user, and the exit status."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress

import yaml

from grm_jax.places import shown

BAD_INPUT, FAILED = 2, 1
LOST = (
    "another process of this job has ended or cannot be reached, so this one ends too ({}). The "
    "log of the one that ended first says why; the same command goes on from what was saved."
)
OUT_OF_MEMORY = (
    "out of memory on the device ({}). Take less at once: a lower --slots or --max-new-tokens "
    "for sampling, more --compute.microbatches for training, or a --mesh of more devices; "
    "`grm aot` tells in advance what fits. What was saved is kept."
)
DISK_FULL = (
    "no space is left on the disk{} ({}). Make room, or name an output elsewhere; what was saved "
    "is kept, and the same command goes on from there."
)
# What the operating system says of a path, and what to do.
SYSTEM = {
    errno.EACCES: "cannot be opened: change its permissions, or choose another place",
    errno.EPERM: "cannot be opened: change its permissions, or choose another place",
    errno.EROFS: "is on a read-only disk: choose another place",
    errno.ENOENT: "does not exist",
    errno.EEXIST: "exists already: choose another place",
    errno.EISDIR: "is a folder, where a file is needed",
    errno.ENOTDIR: "has a file in its path where a folder is needed: choose another place",
    errno.ENAMETOOLONG: "has a name that is too long for this disk: shorten it",
    errno.ELOOP: "is a link that leads back to itself",
}


def explain(error: Exception) -> tuple[str, int] | None:
    """A sentence and the exit status; None for an error that is a bug of ours."""
    known = _explain(error)
    return None if known is None else (shown(known[0]), known[1])


def _explain(error: Exception) -> tuple[str, int] | None:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "jax" in sys.modules:  # otherwise it is none of its errors, and there is no other process
        from grm_jax import processes

        if processes.is_lost(error):  # first, since JAX turns some of these into ValueErrors
            return LOST.format(first), FAILED
        if _is_out_of_memory(error):
            return OUT_OF_MEMORY.format(first), FAILED
    if (where := _full_disk(error)) is not None:
        return DISK_FULL.format(where and f" of {where}", first), FAILED
    if isinstance(error, MemoryError):
        return f"out of memory on this machine ({first}). Take less at once.", FAILED
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, yaml.YAMLError):
        return f"this is not YAML: {' '.join(str(error).split())}.", BAD_INPUT
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("grm_jax"):
        return f"this needs the library {error.name}, which is not installed.", BAD_INPUT
    if isinstance(error, ValueError):
        return str(error), BAD_INPUT
    return None


def silence() -> None:
    """Sends the rest of the output nowhere once its pipe is closed (`| head`)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # not a file, as in a notebook
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if poll.poll(0):  # a pipe without a reader
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and so on to the first one."""
    now: BaseException | None = error
    while now is not None:
        yield now
        now = now.__cause__ or now.__context__


def _is_out_of_memory(error: Exception) -> bool:
    """Whether XLA ran out of a device's memory, running a program or compiling it."""
    from jax.errors import JaxRuntimeError

    text = str(error).lower()
    return isinstance(error, JaxRuntimeError) and ("out of memory" in text or "exhausted" in text)


def _full_disk(error: Exception) -> str | None:
    """The file for which its disk was full, "" if its name is not known; None for other errors.

    A full disk is not always an OSError: checkpoints are written by tensorstore.
    """
    for part in chain(error):
        if isinstance(part, OSError) and part.errno in (errno.ENOSPC, errno.EDQUOT):
            return _named(part.filename)
        if "ENOSPC" in str(part) or os.strerror(errno.ENOSPC) in str(part):
            return ""
    return None


def _of_system(error: OSError) -> tuple[str, int]:
    """Errors of ours and of the hub's client are sentences; the system's have a number."""
    if error.errno is None:
        return str(error), BAD_INPUT
    if error.filename is None:
        return f"{error.strerror or error}.", FAILED
    if error.errno in SYSTEM:
        return f"{_named(error.filename)} {SYSTEM[error.errno]}.", BAD_INPUT
    return f"{_named(error.filename)}: {error.strerror}.", FAILED


def _named(filename: object) -> str:
    """A file's name, without its middle if it is too long to read."""
    name = "" if filename is None else str(filename)
    with suppress(UnicodeDecodeError, AttributeError):
        name = filename.decode() if isinstance(filename, bytes) else name
    return name if len(name) <= 200 else f"{name[:80]} .. {name[-80:]}"
