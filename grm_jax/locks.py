"""Locks: no two processes write one file.

They are the operating system's, so a lock ends with its process, however that ends.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from grm_jax.processes import say

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


def lock_of(path: Path) -> Path:
    """The lock file that lies beside a file."""
    return path.with_name(f".{path.name}.lock")


def lock(file: Path, path: Path, stack: ExitStack) -> None:
    """Holds the lock `file` of the output `path` until the stack is closed.

    Where the file system has no locks, says so and goes on.

    Raises:
        ValueError: another process holds it.
        OSError: the lock file cannot be written.
    """
    held = FileLock(file, fallback_to_soft=False)
    try:
        # With a timeout: whoever releases the lock deletes its file, which we may just have opened.
        held.acquire(timeout=0.5)
    except Timeout:
        raise ValueError(
            f"another process is writing {path} (it holds {file}): wait until it has ended, or "
            "name another output."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        file.unlink(missing_ok=True)
        say(
            f"The file system of {path} has no locks: make sure yourself that no other process "
            "writes there."
        )
        return
    stack.callback(held.release)
    stack.callback(file.unlink, missing_ok=True)  # before it is released
