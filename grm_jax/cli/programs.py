"""Compiled programs, kept on disk by JAX's own cache: a command compiles the first time only."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import shutil
import sys
import warnings
from pathlib import Path

import jax

DIR, LEAST = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
MOST = 2 * 2**30  # bytes of a folder that we chose; the oldest programs beyond that are deleted
ROOM = 2**28  # bytes that a disk must have left, or nothing more is kept


def keep_programs() -> None:
    """Keeps what is compiled from here on, and finds what was; a cache that fails costs only time.

    JAX's own variables win: JAX_COMPILATION_CACHE_DIR is the folder, and
    JAX_ENABLE_COMPILATION_CACHE=0 keeps nothing.
    """
    folder = programs_folder()
    if folder is None:
        return
    # A damaged entry, or a disk that has just filled up: the program is compiled, and that is all.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not chosen:
        _trim(folder)
        jax.config.update("jax_compilation_cache_dir", folder)
    if (fault := _fault(folder)) is not None:
        print(f"New programs are not kept: {fault}. {DIR} names another folder.", file=sys.stderr)
        jax.config.update(LEAST.lower(), math.inf)  # those that are there can be read
    elif LEAST not in os.environ:
        # A small model's programs take less than JAX's second each, and there are dozens of them.
        jax.config.update(LEAST.lower(), 0.0)


def programs_folder() -> str | None:
    """Where programs are kept: in JAX's own variable's folder, or the user's; None: nowhere."""
    if not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return None
    return jax.config.jax_compilation_cache_dir or _folder()  # type: ignore[attr-defined]


def forget_programs() -> None:
    """No cache, whatever the environment says: for commands that are about compiling."""
    jax.config.update("jax_enable_compilation_cache", False)


def _folder() -> str | None:
    """The user's folder for this kind of machine; None for a user who has no home, since code may
    not come from where others can write.

    Code for one processor may not run on another, and a home is often shared between machines.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        return None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = sorted({line for line in lines if line.startswith(("model name", "flags", "Feat"))})
    except OSError:
        cpu = [platform.processor()]
    digest = hashlib.sha256("\n".join((platform.machine(), *cpu)).encode()).hexdigest()
    return os.path.join(base, "grm_jax", f"programs-{digest[:12]}")


def _fault(folder: str) -> str | None:
    """Why nothing can be kept in a folder, which is made if need be; None where it can."""
    if "://" in folder:  # a bucket
        return None
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not os.access(folder, os.W_OK):
        return f"{folder} can only be read"
    return f"the disk of {folder} is full" if free < ROOM else None


def _trim(folder: str) -> None:
    """Deletes the oldest files of a folder that holds too much; other processes may do the same."""
    kept = 0
    try:
        files = [(entry.stat(), entry.path) for entry in os.scandir(folder)]
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
            kept += stat.st_size
            if kept > MOST:
                os.unlink(path)
    except OSError:
        pass
