"""`grm serve` as a process: it says where it is, and a signal ends it once all is answered."""

import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("fastapi")

from grm_jax import Example
from grm_jax.client import Client
from grm_jax.judging.judgment import Verdict
from tests.processes import QUICK
from tests.serve.live import get, until


@pytest.mark.slow
def test_a_signal_ends_it_in_order(monkeypatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", QUICK)
    options = ["--port", "0", "--slots", "8", "--k", "4", "--limits.prompt", "100"]
    command = [sys.executable, "-m", "grm_jax", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = re.search(r"(http://127.0.0.1:\d+);", process.stdout.readline())
            assert told is not None
            with Client(told[1]) as client:
                until(lambda: get(f"{told[1]}/ready").status_code == 200)
                stream = client.stream(Example("What is 16+50?", ["66", "1"]), k=32)
                votes = [next(stream)]
                process.send_signal(signal.SIGTERM)
                *more, verdict = stream
            assert process.wait() == 0
        finally:
            process.kill()
    assert isinstance(verdict, Verdict)
    assert sorted([*votes, *more], key=lambda vote: vote.sample) == list(verdict.judgments)
