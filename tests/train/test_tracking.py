"""metrics.jsonl is the truth: each step once, whatever interruption there was."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from grm_jax.train.tracking import Tracker, TrackingConfig, cut_after, read_metrics


def numbers(step, tokens=100.0, too_long=0):
    return {"train/loss": float(step), "data/tokens": tokens, "data/too_long": too_long}


def log(folder, steps, start=0, **config):
    tracker = Tracker(folder, TrackingConfig(**config), start=start, total=9, name="stage")
    for step in steps:
        tracker.log(step, numbers(step))
    tracker.close()


def test_every_step_is_on_disk_at_once(tmp_path):
    tracker = Tracker(tmp_path, start=0, total=9, name="stage")
    tracker.log(1, numbers(1))
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, **numbers(1)}]
    tracker.close()


def test_a_resumed_run_repeats_no_step(tmp_path):
    log(tmp_path, range(1, 6))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "train/lo')  # what a kill tore
    log(tmp_path, range(4, 8), start=3)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 8))


def test_what_was_not_finite_is_null(tmp_path):
    """NaN is no JSON."""
    tracker = Tracker(tmp_path, start=0, total=9, name="stage")
    tracker.log(1, {**numbers(1), "train/loss": float("nan")})
    tracker.close()
    assert '"train/loss": null' in (tmp_path / "metrics.jsonl").read_text()


def test_rows_after_a_step_are_cut_and_the_others_stay_as_they_are(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = ['{"step": 1, "text": "\\u00e9 \u2028"}', '{"step":1}', "no row", '{"step": 2}']
    path.write_text("\n".join([*lines, '{"step": 3}', '{"step": 2}', '{"step": 3, "te']))
    assert [row["step"] for row in cut_after(path, 2)] == [1, 1, 2, 2]
    wanted = [*lines[:2], lines[3], lines[3]]
    assert path.read_text() == "".join(line + "\n" for line in wanted)
    assert cut_after(tmp_path / "none.jsonl", 2) == []


def test_a_resumed_run_knows_the_numbers_it_goes_on_from(tmp_path):
    log(tmp_path, range(1, 6))
    for start, wanted in ((3, {"step": 3, **numbers(3)}), (0, {})):
        tracker = Tracker(tmp_path, start=start, total=9, name="stage")
        assert tracker.before == wanted
        tracker.close()


def test_lines_tell_loss_speed_and_what_was_left_out(tmp_path, capsys):
    tracker = Tracker(tmp_path, TrackingConfig(print_every=3), start=0, total=4, name="stage")
    for step in range(1, 5):
        tracker.log(step, numbers(step, too_long=2))
    tracker.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["stage: step 3/4", "stage: step 4/4"]
    assert "loss 3.0000" in lines[0]
    assert "tokens/s" in lines[0]
    assert "6 rows left out (longer than batch.length)" in lines[0]
    assert lines[1].endswith("0:00:00 left")


def test_slow_steps_have_a_line_each_minute(tmp_path, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    tracker = Tracker(tmp_path, TrackingConfig(print_every=50), start=0, total=9, name="stage")
    for step in range(1, 9):
        clock[0] += 25.0
        tracker.log(step, numbers(step))
    tracker.close()
    told = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in told] == ["stage: step 3/9", "stage: step 6/9"]


def test_other_processes_write_nothing(tmp_path, capsys):
    log(None, range(1, 3), print_every=1)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""


def test_tensorboard_gets_every_number(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((Path(folder), purge_step))

        def add_scalar(self, *scalar):
            written.append(scalar)

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    log(tmp_path, [4], start=3, tensorboard=True)
    assert written[0] == (tmp_path, 4)
    assert ("train/loss", 4.0, 4) in written
    assert written[-1] == "closed"


def test_wandb_resumes_the_run_of_the_folder(tmp_path, monkeypatch):
    begun, logged = [], []

    def init(**options):
        begun.append(options)
        return SimpleNamespace(
            log=lambda numbers, step: logged.append((step, numbers["train/loss"])),
            finish=lambda: logged.append("finished"),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    log(tmp_path / "..", [1], wandb="project")
    log(tmp_path / "..", [2], start=1, wandb="project")
    assert begun[0] == begun[1]
    assert begun[0]["project"] == "project"
    assert begun[0]["resume"] == "allow"
    assert logged == [(1, 1.0), "finished", (2, 2.0), "finished"]


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_a_missing_extra_says_how_to_install_it(tmp_path, monkeypatch, extra):
    module = {"tensorboard": "tensorboardX", "wandb": "wandb"}[extra]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"tracking\.{extra} needs {module}: pip install"):
        log(tmp_path, [1], **{extra: "on"})


def test_printing_every_zero_steps_is_refused():
    with pytest.raises(ValueError, match=r"print_every is 0"):
        TrackingConfig(print_every=0)
