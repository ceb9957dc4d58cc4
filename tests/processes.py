"""Real processes for tests: a job of some with virtual CPU devices, running `grm` commands."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

CODE = """
import json, sys
from grm_jax.cli import main

for arguments in json.loads(sys.argv[1]):
    status = main(arguments)
    if status:
        sys.exit(status)
"""
# The programs run a few times only: compiling them well would take longer. A program in one piece
# takes less time than in many.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
)
# XLA's older emitters take less than half the time of the newer ones. Later versions lack them, and
# end a process that names a flag they do not know.
if version("jaxlib").startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false"

# Seconds after which a job hangs; on a busy machine it may be slow.
HANGS = 1000


class Job:
    """Processes that run the same commands, one after another; none outlives the `with` block.

    `before` is Python that each runs first.
    """

    def __init__(
        self,
        count: int,
        *commands: Sequence[str],
        devices: int = 4,
        before: str = "",
        **environment: str,
    ):
        address = f"localhost:{free_port()}"
        shared = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
            **environment,
        }
        command = [
            sys.executable,
            "-c",
            before + CODE,
            json.dumps([list(map(str, c)) for c in commands]),
        ]
        self._told = [tempfile.TemporaryFile("w+") for _ in range(count)]  # noqa: SIM115
        self.processes = []
        for index, told in enumerate(self._told):
            own = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(index),
            }
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=shared | (own if count > 1 else {}),
                    stdout=told,
                    stderr=subprocess.STDOUT,
                )
            )

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for told in self._told:
            told.close()

    def told(self, index: int) -> str:
        """What a process has printed."""
        self._told[index].seek(0)
        return self._told[index].read()

    def until(self, happened: Callable[[], bool], limit: float = HANGS) -> None:
        """Waits for something that the job does."""
        deadline = time.monotonic() + limit
        while not happened():
            ended = any(process.poll() is not None for process in self.processes)
            assert not ended, self._all()
            assert time.monotonic() < deadline, self._all()
            time.sleep(0.01)

    def ends(self, statuses: Sequence[int | None], limit: float = HANGS) -> None:
        """Waits for the end of every process, and checks their exit statuses (None: any)."""
        deadline = time.monotonic() + limit
        for process in self.processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"not ended in {limit} s:\n{self._all()}") from None
        found = [process.returncode for process in self.processes]
        for status, wanted in zip(found, statuses, strict=True):
            assert wanted in (None, status), f"{found}\n{self._all()}"

    def _all(self) -> str:
        told = (f"--- process {i}\n{self.told(i)[-4000:]}" for i in range(len(self.processes)))
        return "\n".join(told)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def lines(path: Path) -> int:
    """How many whole lines a file has; none where there is no file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
