"""`grm` commands in processes of their own that can be killed.

They are forked from a process that has imported the commands but started no JAX backend, so that
a round costs no imports.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

SECONDS = 900  # a command that takes longer hangs
_fork = multiprocessing.get_context("fork")


def warm_up() -> None:
    """Imports what the commands need, once."""
    import grm_jax.cli.evaluate
    import grm_jax.cli.judge
    import grm_jax.cli.train  # noqa: F401


class Command:
    """A running `grm ARGUMENTS`; what it prints goes to a log file, after what is there."""

    def __init__(self, arguments: Sequence[str], log: Path, *, largest_file: int | None = None):
        self.log = log
        self.before = log.stat().st_size if log.exists() else 0
        self._process = _fork.Process(target=_main, args=(list(arguments), log, largest_file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forks: JAX has started no thread here
            self._process.start()

    def poll(self) -> int | None:
        """The exit status, or None while it runs; minus the signal's number if one ended it."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self._process.pid is not None and self.poll() is None:
            os.kill(self._process.pid, number)

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit status at its end. Raises TimeoutError: it hung, and was killed."""
        self._process.join(seconds)
        status = self.poll()
        if status is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"no end after {seconds} s, see {self.log}")
        return status

    @property
    def said(self) -> str:
        """What it printed."""
        with self.log.open("rb") as file:
            file.seek(self.before)
            return file.read().decode(errors="replace").replace("\r", "\n")


def run(arguments: Sequence[str], log: Path, **limits: int) -> Command:
    """The command at its end."""
    command = Command(arguments, log, **limits)
    command.wait()
    return command


def until(condition, command: Command, seconds: float = SECONDS) -> bool:
    """Waits for a condition; False if the command ends first."""
    end = time.monotonic() + seconds
    while not condition():
        if command.poll() is not None:
            return False
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for a place to stop, see {command.log}")
        time.sleep(0.01)
    return True


def _main(arguments: list[str], log: Path, largest_file: int | None) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    if largest_file is not None:  # the nearest to a full disk that needs no rights
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from grm_jax.cli import main

    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)
