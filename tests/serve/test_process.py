"""`grm serve` as a process: what a signal, and its sudden end, mean for those who ask."""

import signal

import pytest

pytest.importorskip("fastapi")

from benchmarks.serve import running
from grm_jax import Example, Judge
from grm_jax.client import Client
from grm_jax.judging.judgment import Verdict
from tests.processes import QUICK

OPTIONS = ["--slots", "8", "--k", "4", "--limits.prompt", "100"]


@pytest.mark.slow
def test_a_signal_ends_it_in_order(monkeypatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", QUICK)
    with running("--port", "0", *OPTIONS) as server, Client(server.url) as client:
        stream = client.stream(Example("What is 16+50?", ["66", "1"]), k=32)
        votes = [next(stream)]
        server.process.send_signal(signal.SIGTERM)
        *more, verdict = stream
        assert server.process.wait() == 0
    assert isinstance(verdict, Verdict)
    assert sorted([*votes, *more], key=lambda vote: vote.sample) == list(verdict.judgments)


@pytest.mark.slow
def test_clients_of_a_server_that_is_killed_get_every_answer(monkeypatch) -> None:
    """With requests in flight; from the one that is started in its place, and the same bits."""
    monkeypatch.setenv("XLA_FLAGS", QUICK)
    rows = [Example(f"What is 1{i}+50?", [f"6{i}", "70"], str(i)) for i in range(10)]
    with running("--port", "0", *OPTIONS) as first:
        client = Client(first.url, retries=100, backoff=0.1, concurrency=4)
        answers = client.judge_all(rows * 3)
        found = [next(answers)]
        first.process.kill()
        first.process.wait()
        with client, running("--port", first.url.rpartition(":")[2], *OPTIONS):
            found += answers
    expected = list(Judge.load("tiny", slots=8).judge_all(rows * 3, 4))
    assert sorted(found, key=lambda v: v.id) == sorted(expected, key=lambda v: v.id)
