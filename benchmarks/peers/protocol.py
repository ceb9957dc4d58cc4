"""A worker: a process in an environment of its own, asked in JSON, a line for each question."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Answer = dict[str, Any]
Handler = Callable[..., Answer]


class WorkerError(RuntimeError):
    """A worker could not do what it was asked; the message is the worker's."""


class Worker:
    """The asking side; `close` ends the process.

    Args:
        command: what starts it; it calls `serve`.
        environment: variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )

    def ask(self, operation: str, **arguments: Any) -> Answer:
        """The answer to one question.

        Raises:
            WorkerError: what went wrong there, or that it has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"operation": operation, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"it has ended; {self.log} says why")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{answer['error']} (see {self.log})")
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and did not read the last word
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def serve(handlers: Mapping[str, Handler]) -> None:
    """The answering side, until its input ends: each operation is a function whose result is sent
    back with the seconds it took (unless it has timed itself), CPU seconds and peak memory."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    for line in sys.stdin:
        question = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            answer = handlers[question.pop("operation")](**question)
            answer = {"seconds": time.perf_counter() - wall} | answer
            answer["cpu_seconds"] = time.process_time() - cpu
            answer["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        except Exception as error:  # the next question may have an answer
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
