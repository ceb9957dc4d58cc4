"""`grm bench`: every row has its numbers, in the table and in the file; nothing is timed here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from grm_jax.bench import judging, limits, shapes
from grm_jax.bench.config import JudgeBench
from grm_jax.bench.judging import measure_random
from grm_jax.bench.report import check_output
from grm_jax.bench.shapes import random_params, shape_of
from grm_jax.bench.updates import draw_tokens, make_update
from grm_jax.cli import main
from grm_jax.metric_names import LOSS
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model

SMALL = replace(PRESETS["tiny-quarter"], sliding_window=8, max_position=96)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SMALL", SMALL)
    monkeypatch.setitem(limits.LARGE, "cpu", (2**16, 32, 1))


COMMANDS = {
    "": (1, "--k 2 --prompt 9 --new 3"),  # the sampler
    "train": (1, "--stages [grpo] --prompts 1 --group 2 --prompt 9 --new 3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_rows_have_all_their_numbers(command: str, tmp_path: Path, capsys) -> None:
    count, options = COMMANDS[command]
    output = tmp_path / "new" / "speed.json"
    arguments = [*command.split(), *options.split(), "--repeats", "2", "--output", str(output)]
    assert main(["bench", *arguments]) == 0
    told = json.loads(output.read_text())
    assert set(told) == {"settings", "machine", "limits", "rows"}
    assert told["settings"]["repeats"] == 2
    assert set(told["limits"]) == {"bandwidth", "flops"}
    assert len(told["rows"]) == count
    for row in told["rows"]:
        assert len(row["all_seconds"]) == 2
        for name in ("tokens", "seconds", "tokens_per_second", "peak_bytes"):
            assert row[name] > 0
        for name in ("bandwidth_share", "flop_share", "floor_share"):
            assert math.isfinite(row[name])
            assert row[name] > 0
    shown = capsys.readouterr().out
    for line in ("tokens/s", "GB/s", "GFLOP/s", "of the floor", "compiling", "peak memory"):
        assert line in shown
    assert check_output(str(output)) == output  # a result of its own may be replaced


def test_a_file_that_is_no_result_is_left_alone(tmp_path: Path, capsys) -> None:
    (tmp_path / "other.json").write_text("{}")
    for command in ("sampler", "judge", "train"):
        assert main(["bench", command, "--output", str(tmp_path / "other.json")]) == 2
        assert "a result of grm bench" in capsys.readouterr().err
    assert (tmp_path / "other.json").read_text() == "{}"


def test_bad_options_are_refused_in_a_sentence(capsys) -> None:
    for options, said in {
        "sampler --k 0": "k is 0; give 1 or more.",
        "train --stages []": "stages is empty",
        "judge --size 3b": "size is '3b'",
    }.items():
        assert main(["bench", *options.split()]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_random_rows_stop_at_lengths_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "LONGEST", 30)
    monkeypatch.setattr(judging, "MEAN", 4)
    model = Model(SMALL)
    row = measure_random(model, JudgeBench(size="small", rows=3, k=3, repeats=1))
    assert 9 <= row.tokens < 9 * 30
    assert row.phases[0].flops > 0


@pytest.mark.slow
def test_the_bundled_judge_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "judge.json"
    arguments = ["--rows", "2", "--k", "1", "--repeats", "1", "--output", str(output)]
    assert main(["bench", "judge", *arguments]) == 0
    (row,) = json.loads(output.read_text())["rows"]
    assert row["tokens"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "rft", "grpo"])
def test_an_update_learns_what_the_stage_learns(stage) -> None:
    """With one prompt token all but the first token are a completion: sft and rft are the same."""
    model = Model(SMALL)
    written = draw_tokens(SMALL.vocab_size, prompts=2, group=2, prompt=1, new=6)
    update = make_update(stage, model, random_params(model), written, remat=False)
    metrics = update()
    assert all(math.isfinite(value) for value in metrics.values())
    if stage != "grpo":
        assert metrics[LOSS] == pytest.approx(math.log(SMALL.vocab_size), rel=0.2)
    assert update()[LOSS] != metrics[LOSS]


def test_advantages_sum_to_nothing_in_a_group() -> None:
    written = draw_tokens(100, prompts=3, group=4, prompt=5, new=6)
    assert written.rows().shape == (12, 11)
    assert (written.rows()[1] == [*written.prompts[0], *written.completions[0, 1]]).all()
    assert abs(written.advantage.sum(axis=1)).max() < 1e-5


def test_sizes_for_accelerators_are_in_half_precision_and_trained_in_full() -> None:
    assert shape_of("2b").param_dtype == "bfloat16"
    trained = shape_of("9b", training=True)
    assert (trained.dtype, trained.param_dtype) == ("bfloat16", "float32")
