"""Whole commands on a bucket: killed, refused to others, and continued to the bytes of a folder."""

import json
import signal
from pathlib import Path

import pytest

from grm_jax import copies
from grm_jax.cli import main
from grm_jax.cli.verdict_file import VerdictFile
from grm_jax.places import Place
from grm_jax.train.tracking import Tracker, read_metrics
from tests.devices import one_device
from tests.processes import Job

# aiohttp's, of how gcsfs sends what is larger than a megabyte.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
SFT = """
start: {start}
stages:
  first: {{steps: 6, data: [{{source: {source}}}], optimizer: {{learning_rate: 1.0e-3}}}}
batch: {{sequences: 4, length: 64}}
checkpoint: {{every: 2}}
"""
# Stops in the middle, when the bucket has what the run is to go on from, and waits to be killed.
HELD = """
import time
from pathlib import Path
from grm_jax import copies
from grm_jax.places import Place
from grm_jax.{module} import {kind}

whole, count = {kind}.{method}, 0

def hold(self, *given):
    global count
    whole(self, *given)
    count += 1
    while count == {after}:
        if {there}:
            Path({marker!r}).touch()
        time.sleep(0.01)

{kind}.{method} = hold
"""
JUDGE = ("--k", "2", "--slots", "16")


@pytest.fixture
def quick(monkeypatch):
    """What is written follows at once."""
    monkeypatch.setattr(copies, "EVERY", 0.05)


def held(marker, **where):
    code = HELD.format(marker=str(marker), **where)
    return code + "copies.EVERY = 0.05\n"


def grm(*arguments):
    with one_device():
        return main([*map(str, arguments)])


def objects(address):
    """What is at an address, without the settings, which have the output's name."""
    place = Place(address)
    return {
        name: (place / name).read()
        for name in place.files()
        if "checkpoints/" not in name and not name.endswith("config.yaml")
    }


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and "checkpoints" not in path.parts and path.name != "config.yaml"
    }


@pytest.mark.slow
def test_training_is_killed_refused_to_others_and_continued(
    runs, tmp_path, capsys, monkeypatch, quick
):
    rows = "".join(
        json.dumps({"prompt": f"What is {n}+{n}?", "completion": f"{2 * n}"}) + "\n"
        for n in range(40)
    )
    (tmp_path / "rows.jsonl").write_text(rows)
    Place(f"{runs}/rows.jsonl").write(rows.encode())
    for name, source in (("here", tmp_path), ("there", runs)):
        text = SFT.format(start="tiny-start", source=f"{source}/rows.jsonl")
        (tmp_path / f"{name}.yaml").write_text(text)
    alone, output = tmp_path / "alone", f"{runs}/sft"
    assert grm("train", "sft", "--config", tmp_path / "here.yaml", "--output", alone) == 0

    command = ["train", "sft", "--config", tmp_path / "there.yaml", "--output", output]
    marker = tmp_path / "marker"
    committed = f"{output}/first/checkpoints/4/commit_success.txt"
    hold = held(
        marker,
        module="train.tracking",
        kind="Tracker",
        method="log",
        after=5,
        there=f"Place({committed!r}).stored()",
    )
    with Job(1, command, devices=1, before=hold) as job:
        job.until(marker.exists)
        capsys.readouterr()
        assert grm(*command) == 2
        told = capsys.readouterr().err
        assert f"another process is writing {output} (process {job.processes[0].pid} on " in told
        job.processes[0].send_signal(signal.SIGKILL)
        job.ends([-signal.SIGKILL])

    log, logged = Tracker.log, []
    monkeypatch.setattr(
        Tracker, "log", lambda self, step, *rest: (logged.append(step), log(self, step, *rest))[1]
    )
    assert grm(*command) == 0
    assert logged == [5, 6]
    told = capsys.readouterr().err
    assert "has ended without saying so" in told
    assert f"The model is in {output}/model" in told
    assert str(tmp_path.parent) not in told
    assert objects(output) == files(alone)
    assert len(read_metrics(alone / "first" / "metrics.jsonl")) == 6
    # The model is there for all that takes one.
    assert grm("judge", "--model", f"{output}/model", "--k", "1", "--slots", "8") in (0, 1)


@pytest.mark.slow
def test_judging_is_killed_and_continued(runs, tmp_path, capsys, monkeypatch, quick):
    rows = [
        {"id": n, "prompt": f"What is {n}+{n}?", "responses": [f"{2 * n}", f"{2 * n + 1}"]}
        for n in range(11, 41)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text)
    Place(f"{runs}/in/rows.jsonl").write(text.encode())
    alone = tmp_path / "v.jsonl"
    assert grm("judge", "--input", tmp_path / "rows.jsonl", "--output", alone, *JUDGE) == 0

    output, marker = f"{runs}/out/v.jsonl", tmp_path / "marker"
    command = ["judge", "--input", f"{runs}/in/rows.jsonl", "--output", output, *JUDGE]
    hold = held(
        marker,
        module="cli.verdict_file",
        kind="VerdictFile",
        method="write",
        after=12,
        there=f"Place({output!r}).stored() or Place({output + '.parts'!r}).files()",
    )
    with Job(1, command, devices=1, before=hold) as job:
        job.until(marker.exists)
        assert grm(*command) == 2
        assert "another process is writing" in capsys.readouterr().err
        job.processes[0].send_signal(signal.SIGKILL)
        job.ends([-signal.SIGKILL])

    write, judged = VerdictFile.write, []
    monkeypatch.setattr(
        VerdictFile, "write", lambda self, one: (judged.append(one.id), write(self, one))[1]
    )
    assert grm(*command) == 0
    assert 0 < len(judged) < 30
    assert f"{output} has {30 - len(judged)} rows already" in capsys.readouterr().err
    assert Place(output).read() == alone.read_bytes()
    assert set(Place(f"{runs}/out").files()) == {"v.jsonl", "v.jsonl.yaml"}
    judged.clear()
    assert grm(*command) == 0
    assert not judged
    assert grm(*command[:5], *JUDGE, "--seed", "1") == 2
    assert "other settings" in capsys.readouterr().err
    assert grm("judge", "--input", output, "--output", output, *JUDGE) == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert Place(output).read() == alone.read_bytes()


@pytest.mark.slow
def test_an_evaluation_and_what_compares_it(runs, tmp_path, capsys):
    options = ("--benchmark", "world", "--limit", "8", "--k", "2", "--slots", "16")
    alone, output = tmp_path / "eval", f"{runs}/eval"
    for where in (alone, output):
        assert grm("eval", *options, "--output", where) == 0
    there, here = objects(output), files(alone)
    assert set(there) == set(here)
    for name in ("samples.jsonl", "greedy.jsonl", "rows.jsonl"):
        assert there[name] == here[name]
    capsys.readouterr()
    assert grm("compare", alone, output, "--output", tmp_path / "page.html") == 0
    assert "No verdict on a row has changed" in capsys.readouterr().out
    assert grm("compare", alone, output) == 2


def test_what_is_not_there_is_told(runs, tmp_path, capsys):
    Place(f"{runs}/theirs/notes.txt").write(b"mine")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1+1?", "responses": ["2", "3"]}\n')
    for arguments, says in (
        (("judge", "--input", f"{runs}/none.jsonl"), "there is no file or folder at gs://"),
        (("judge", "--model", f"{runs}/none"), "there is no file or folder at gs://"),
        (("judge", "--input", rows, "--output", "gs://none/v.jsonl"), "gs://none"),
        (("judge", "--input", rows, "--output", "nope://none/v.jsonl"), "not known"),
        (("eval", "--output", f"{runs}/theirs"), "holds notes.txt, but no settings.yaml"),
        (("eval", "--benchmark", "paper", "--output", f"{runs}/paper"), "a folder of this machine"),
    ):
        assert grm(*arguments) == 2
        assert says in capsys.readouterr().err
    assert set(Place(f"{runs}/theirs").files()) == {"notes.txt"}
