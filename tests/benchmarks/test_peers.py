"""The peers' bench without any peer: its workers' protocol, its checks and its ratios."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers import environments, shape
from benchmarks.peers.interleave import (
    Disagreement,
    apart,
    check_logits,
    check_losses,
    in_turn,
    summarize,
)
from benchmarks.peers.protocol import Worker, WorkerError
from benchmarks.peers.rows import plain_model
from grm_jax.bench.updates import draw_tokens
from grm_jax.models.hf import load_folder

FAKE = [sys.executable, "-m", "tests.benchmarks.fake_worker"]
TINY = shape.SHAPES["tiny"]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(FAKE, {}, tmp_path / "logs" / "fake.log")
    yield made
    made.close()


def test_a_worker_answers_and_outlives_its_errors(worker: Worker) -> None:
    answer = worker.ask("double", value=21)
    assert answer["value"] == 42
    assert answer["seconds"] >= 0
    assert answer["peak_bytes"] > 0
    assert "a library says something" in worker.log.read_text()
    with pytest.raises(WorkerError, match="no such way"):
        worker.ask("sample", way="broken", k=1, seed=0)
    assert worker.ask("sample", way="2", k=3, seed=7)["seconds"] == 6.0  # it has timed itself
    with pytest.raises(WorkerError, match="it has ended"):
        worker.ask("leave")
    assert "the last words" in worker.log.read_text()
    with pytest.raises(WorkerError, match="it has ended"):
        worker.ask("double", value=1)


def test_rows_are_asked_in_turn_and_one_that_fails_is_left_out(worker: Worker) -> None:
    said: list[str] = []
    rows = {"ours": (worker, "1"), "slow": (worker, "3"), "bad": (worker, "broken")}
    runs = in_turn(rows, 2, said.append, "sample", k=2)
    assert {name: [a["seed"] for a in answers] for name, answers in runs.items()} == {
        "ours": [0, 1, 2],
        "slow": [0, 1, 2],
    }
    assert [line for line in said if "no such way" in line] == [said[2]]
    with pytest.raises(Disagreement, match="nothing to compare"):
        summarize({"slow": runs["slow"]}, "ours", tokens=12)
    summary = summarize(runs, "ours", tokens=12)
    assert summary["slow"]["ratio"] == 3.0
    assert summary["slow"]["ratio_range"] == [3.0, 3.0]
    assert summary["ours"]["tokens_per_second"] == 6.0
    json.dumps(summary)


def test_apart_every_row_has_as_many_rounds_forth_and_back(tmp_path: Path) -> None:
    started: list[str] = []

    def start(name: str) -> tuple[Worker, str]:
        started.append(name)
        return Worker(FAKE, {}, tmp_path / "log"), {"ours": "1", "other": "2"}[name]

    runs = apart(["ours", "other"], start, 2, lambda _: None, "sample", k=1)
    assert started == ["ours", "other", "other", "ours"]
    assert {name: len(answers) for name, answers in runs.items()} == {"ours": 5, "other": 5}
    assert summarize(runs, "ours", 1)["other"]["ratio"] == 2.0


def test_rows_that_do_not_compute_the_same_are_refused() -> None:
    logits = {"ours": [1.0, 2.0, 0.5], "logprobs": [-3.0, -2.0, -3.5]}  # equal but for a constant
    assert check_logits(logits, "ours", 1e-6)["logprobs"] == pytest.approx(0)
    for other in ([1.0, 2.0, 0.6], [1.0, float("nan"), 0.5]):
        with pytest.raises(Disagreement, match="the logits of peer differ"):
            check_logits({**logits, "peer": other}, "ours", 0.05)
    runs = {"ours": [{"loss": 1.0, "norm": 2.0}], "peer": [{"loss": 1.0, "norm": 2.1}]}
    assert check_losses(runs, "ours", 0.1)["peer"]["norm"] == 2.1
    with pytest.raises(Disagreement, match=r"the norm of peer is 2\.1, of ours 2"):
        check_losses(runs, "ours", 0.01)


@pytest.mark.parametrize("work", ["8x512", "8x512+128+1", "0x512+128", "many"])
def test_work_is_so_many_numbers(work: str) -> None:
    with pytest.raises(ValueError, match="is no work"):
        command.numbers(work, 3)
    assert command.numbers("8x512+128", 3) == [8, 512, 128]


def test_the_command_knows_its_rows() -> None:
    options = command.read_options(["train", "--rows", "TRL;Tunix"])
    assert list(options.rows) == ["ours", "TRL", "Tunix"]
    assert options.work == command.TRAIN_WORK
    for wrong in (["train", "--rows", "gemma"], ["sampler", "--rounds", "0"], ["judge"]):
        with pytest.raises(SystemExit):
            command.read_options(wrong)


def test_every_row_has_a_module_and_every_environment_its_pins() -> None:
    rows = [*command.SAMPLER.values(), *command.TRAIN.values()]
    for row in rows:
        assert (environments.HERE / "rows" / f"{row.module}.py").exists()
        file = environments.REQUIREMENTS[row.environment]
        if file is not None:
            lines = (environments.HERE / "requirements" / file).read_text().splitlines()
            assert all("==" in line or line.startswith("#") for line in lines)
    with pytest.raises(ValueError, match="only where a GPU is"):
        environments.python_of("vllm", gpu=False)
    assert environments.python_of("ours", gpu=False) == sys.executable


def test_environments_are_made_with_the_python_of_their_pins(monkeypatch) -> None:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(environments, "PYTHON", ours)
    assert environments.interpreter() == sys.executable
    monkeypatch.setattr(environments, "PYTHON", "3.99")
    with pytest.raises(ValueError, match=r"pinned for Python 3\.99.* put python3\.99 on the PATH"):
        environments.interpreter()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(shape.write_model(TINY, tmp_path_factory.mktemp("peers") / "tiny"))


@pytest.mark.slow
def test_ours_and_plain_jax_have_the_same_logits(folder: str) -> None:
    read, tensors = shape.read_model(folder)
    assert read == TINY
    model, params = load_folder(folder)
    tokens = jax.numpy.asarray(shape.prompt(TINY, 40))[None]  # longer than the window
    positions = jax.numpy.arange(40)[None]
    ours = model.logits(params, model.hidden(params, tokens, positions)[0, -1])
    weights = plain_model.load(TINY, tensors)
    hidden, _ = plain_model.forward(TINY, weights, tokens, positions, plain_model.causal(40))
    theirs = plain_model.logits(TINY, weights, hidden[:, -1])[:, 0]
    assert np.std(ours) > 0.1
    check_logits({"ours": ours, "plain": theirs}, "ours", 1e-4)


@pytest.mark.slow
def test_plain_jax_decodes_what_it_would_forward(folder: str, monkeypatch) -> None:
    """Greedy in the place of drawing: each token is the likeliest one of a whole forward pass."""
    monkeypatch.setattr(plain_model, "draw", lambda _, logits: logits.argmax(0).astype("int32"))
    weights = plain_model.load(TINY, shape.read_model(folder)[1])
    prompt = shape.prompt(TINY, 20)
    key = jax.random.key(0)
    drawn = plain_model.generate(TINY, weights, prompt, key, k=2, new=6)
    assert (drawn[0] == drawn[1]).all()
    tokens = np.concatenate([prompt, drawn[0]])[None]
    positions = np.arange(26, dtype=np.int32)[None]
    hidden, _ = plain_model.forward(TINY, weights, tokens, positions, plain_model.causal(26))
    logits = plain_model.logits(TINY, weights, hidden[0, 19:-1])
    assert (logits.argmax(0) == drawn[0]).all()


def test_plain_jax_draws_tokens_as_often_as_they_are_likely() -> None:
    scores = np.zeros((512, 4000), np.float32) - 20
    scores[[7, 300, 511]] = np.log([[0.5], [0.3], [0.2]]) * shape.TEMPERATURE
    drawn = np.asarray(plain_model.draw(jax.random.key(0), jax.numpy.asarray(scores)))
    counts = [(drawn == token).mean() for token in (7, 300, 511)]
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.04)  # five standard deviations


def test_a_batch_is_the_same_in_every_environment(tmp_path: Path) -> None:
    drawn = draw_tokens(512, 2, 3, 5, 4)
    np.savez(tmp_path / "batch.npz", **vars(drawn))
    batch = shape.read_batch(str(tmp_path / "batch.npz"))
    assert (batch.rows == drawn.rows()).all()
    assert batch.each.shape == (6, 5)
    assert batch.answers.shape == (6, 4)
