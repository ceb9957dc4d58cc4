"""The thread that owns the engine: jobs share its programs, and leave it when they are given up."""

from dataclasses import replace
from unittest import mock

import pytest

pytest.importorskip("fastapi")

from grm_jax import Example, Judge
from grm_jax.judging.judgment import Verdict
from grm_jax.sampling.engine import Engine
from grm_jax.serve import loop as loops
from grm_jax.serve.job import Busy, Fault, Question
from grm_jax.serve.loop import JudgeLoop
from grm_jax.serve.metrics import Metrics

ROWS = [Example(f"What is 1{i}+50?", [f"6{i}", "70"], str(i)) for i in range(6)]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("tiny", slots=8, meta_rm="tiny-meta", k_meta=2)


@pytest.fixture
def loop(judge, monkeypatch):
    monkeypatch.setattr(loops, "warm_up", lambda *_: None)
    loop = JudgeLoop(judge, Metrics(), queue=6)
    yield loop
    loop.stop()


@pytest.fixture(scope="module")
def expected(judge) -> dict[str, Verdict]:
    return {verdict.id: verdict for verdict in judge.judge_all(ROWS, 4)}  # type: ignore[misc]


def test_what_waits_together_is_drawn_together_and_rated(loop, expected) -> None:
    """Six examples of four samples take the steps of three rounds of eight, not of six."""
    jobs = [loop.job(Question(row, 4)) for row in ROWS]
    for job in jobs:
        loop.submit(job)
    with pytest.raises(Busy, match="try again in"):
        loop.submit(loop.job(Question(ROWS[0], 1)))
    step, steps = Engine.step, []

    def count(engine):
        steps.append(1)
        return step(engine)

    with mock.patch.object(Engine, "step", count):
        loop.start()
        for row, job in zip(ROWS, jobs, strict=True):
            assert job.result.result() == expected[row.id]
        together = len(steps)
        alone = loop.job(Question(ROWS[0], 4))
        loop.submit(alone)
        assert alone.result.result() == expected["0"]
    assert together < 4 * (len(steps) - together)
    assert loop.unfinished == 0


def test_a_job_that_is_given_up_leaves_its_slots(loop, expected) -> None:
    votes = []
    job = loop.job(Question(ROWS[0], 64), lambda vote: (votes.append(vote), loop.cancel(job)))
    loop.submit(job)
    loop.submit(after := loop.job(Question(ROWS[1], 4)))
    loop.start()
    assert after.result.result() == expected["1"]
    assert job.result.cancelled()
    assert 0 < len(votes) <= 8
    assert loop.unfinished == 0


def test_those_drawn_otherwise_wait_for_their_turn(loop, expected, judge) -> None:
    """A seed of its own has the bits that it has in `Judge`; nobody waits for ever."""
    other = Judge(judge.folder, seed=3, slots=8, meta_rm=judge.meta_rm, k_meta=2)
    order = []
    jobs = [
        loop.job(Question(row, 4, seed=seed)) for row, seed in zip(ROWS, (0, 3, 0), strict=False)
    ]
    for number, job in enumerate(jobs):
        job.result.add_done_callback(lambda _, number=number: order.append(number))
        loop.submit(job)
    loop.start()
    found = [job.result.result() for job in jobs]
    assert [found[0], found[2]] == [expected["0"], expected["2"]]
    (odd,) = other.judge_all([ROWS[1]], 4)
    assert found[1] == odd
    assert order[-1] == 1, "what is drawn alike goes together"


def test_a_failure_is_no_score_and_the_next_job_is_answered(loop, expected) -> None:
    failing = mock.patch.object(Engine, "step", side_effect=RuntimeError("out of luck"))
    with failing:
        job = loop.job(Question(ROWS[0], 4))
        loop.submit(job)
        loop.start()
        with pytest.raises(Fault, match="may be sent again"):
            job.result.result()
    loop.submit(job := loop.job(Question(ROWS[0], 4)))
    assert job.result.result() == expected["0"]


def test_a_vote_that_fails_is_told_too(loop, expected, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loops, "conclude", mock.Mock(side_effect=RuntimeError("a bug")))
        loop.submit(job := loop.job(Question(ROWS[0], 4)))
        loop.start()
        with pytest.raises(Fault, match="may be sent again"):
            job.result.result()
    loop.submit(job := loop.job(Question(ROWS[0], 4)))
    assert job.result.result() == expected["0"]


def test_a_verdict_has_the_callers_id_and_its_own_example(loop, expected) -> None:
    """Two callers may give two examples the same id."""
    jobs = [loop.job(Question(replace(row, id="mine"), 4)) for row in ROWS[:2]]
    for job in jobs:
        loop.submit(job)
    loop.start()
    found = [job.result.result() for job in jobs]
    assert found == [replace(expected[str(i)], id="mine") for i in range(2)]


def test_a_warm_up_that_fails_is_said(loop, monkeypatch) -> None:
    def fail(*_):
        raise MemoryError("too large")

    monkeypatch.setattr(loops, "warm_up", fail)
    said = []
    loop.on_failure = lambda: said.append(loop.failure)
    loop.start()
    loop.stop()
    assert [type(error) for error in said] == [MemoryError]
    assert not loop.ready.is_set()


def test_only_judges_that_write_are_served(judge) -> None:
    with pytest.raises(ValueError, match="token-prob"):
        JudgeLoop(Judge(judge.folder, kind="token-prob", slots=8), Metrics())
