"""A job of two processes does what one process does on the same number of devices."""

import json
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from grm_jax import processes
from grm_jax.cli import main
from grm_jax.judging.folder import bundled
from grm_jax.models import hf
from grm_jax.models.config import Gemma2Config
from grm_jax.models.model import Model
from grm_jax.text.tokenizer import Tokenizer
from grm_jax.train.tracking import read_metrics
from tests.devices import first_devices
from tests.processes import Job, lines

# Two of each process. More would only wait for each other on a machine of few cores.
DEVICES = 4
MESH = {"mesh": {"data": 1, "fsdp": DEVICES, "tensor": 1}}
# Adam divides a small gradient by its own size, noise and all; with a large eps it does not, so
# that equal gradients give equal weights.
SMOOTH = {"learning_rate": 0.1, "schedule": "constant", "eps": 1.0}
STEPS = 30
# What the other process says of a killed one: ours, and JAX's own where it is faster.
SENTENCE = "another process of this job has ended or cannot be reached, so this one ends too"
JAXS_SENTENCE = "This most likely indicates that another task died; see the other task logs"
# Equal in length, so that few programs are compiled.
ROWS = [
    {
        "id": f"{a}",
        "prompt": f"What is {a}+48?",
        "responses": [f"{a + 48}", f"{a + 49}"],
        "label": 0,
    }
    for a in range(20, 32)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two start models, rows to judge, and the settings of the runs."""
    place = tmp_path_factory.mktemp("job")
    words, templates = Tokenizer.load(bundled("tiny")), bundled("tiny") / "templates"
    config = Gemma2Config(words.vocab_size, 2, 16, 32, 4, 2, 4, 4.0, 16, max_position=128)
    small = Model(config), jax.jit(Model(config).init)(jax.random.key(1))
    # In float32, so that judging and training share their programs.
    able = hf.load_folder(bundled("tiny-start"), param_dtype="float32")
    for name, (model, params) in {"small": small, "able": able}.items():
        hf.save_folder(model, params, place / name, tokenizer=words, templates=templates)
    sft = {
        "start": str(place / "small"),
        "stages": {"sft": {"steps": STEPS, "optimizer": SMOOTH}},
        "batch": {"sequences": 8, "length": 96},
        "checkpoint": {"every": 1000},
        "compute": MESH,
    }
    grpo = {
        "start": str(place / "able"),
        "items": [{"source": str(place / "rows.jsonl")}],
        "filter": {"n": 2, "judge": {"slots": 8, "max_new_tokens": 48}},
        "group": 2,
        "per_step": 16,
        "slots": 8,
        "steps": 2,
        "samples_every": 1,
        "max_new_tokens": 48,
        "optimizer": SMOOTH,
        "compute": MESH,
    }
    (place / "sft.yaml").write_text(yaml.safe_dump(sft))
    (place / "grpo.yaml").write_text(yaml.safe_dump(grpo))
    unfit = {"id": "empty", "prompt": "What is 1+1?", "responses": []}
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (place / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, unfit]))
    return place


def commands(place: Path, output: Path) -> list[list[str]]:
    judge = f"judge --model {place}/able --meta-rm tiny-meta --k 2 --slots 8 --max-new-tokens 48 \
        --mesh.fsdp {DEVICES} --input {place}/more.jsonl --output {output}/verdicts.jsonl"
    grpo = f"train grpo --config {place}/grpo.yaml --output {output}/grpo"
    return [grpo.split(), judge.split()]


@pytest.fixture(scope="module")
def alone(place):
    """What one process makes of the commands."""
    with Job(1, *commands(place, place / "alone"), devices=DEVICES) as job:
        job.ends([0])
    return place / "alone"


# What Gloo says of its connections; its threads may part a sentence into two lines.
GLOO = re.compile(r"\[Gloo\]|^\s*Expected number of connected peer ranks|^$")


@pytest.fixture(scope="module")
def together(place):
    """What two processes make of them; the second prints nothing."""
    with Job(2, *commands(place, place / "together"), devices=DEVICES // 2) as job:
        job.ends([0, 0])
        assert "The model is in" in job.told(0)
        where = f"CPU: {DEVICES} devices, mesh data=1 fsdp={DEVICES} tensor=1, 2 processes"
        assert job.told(0).count(f"Computing on {where}.") == 2  # once for each command
        assert [line for line in job.told(1).splitlines() if not GLOO.search(line)] == []
    return place / "together"


def same_run(found: Path, wanted: Path, metrics: str, numbers: tuple[str, ...]):
    """Every step's numbers, and the weights at the end, but for rounding."""
    rows, expected = (read_metrics(run / metrics) for run in (found, wanted))
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for name in numbers:
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), (row["step"], name)
    weights, others = (load_file(run / "model" / "model.safetensors") for run in (found, wanted))
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, others[name], rtol=2e-4, atol=2e-6, err_msg=name)


def read(path: Path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_grpo(alone, together):
    numbers = ("reward", "kl", "entropy", "train/loss", "train/grad_norm", "num_tokens")
    same_run(together / "grpo", alone / "grpo", "metrics.jsonl", numbers)
    assert any(row["train/grad_norm"] > 0.01 for row in read(together / "grpo" / "metrics.jsonl"))
    for name in ("filter.jsonl", "rollouts.jsonl"):
        found, wanted = (read(run / "grpo" / name) for run in (together, alone))
        assert said(found) == said(wanted) != []


@pytest.mark.big
def test_adapters(place):
    """SFT and GRPO train the same adapters in one process and in two.

    With a tenth of the learning rate: adapters of a model that knows nothing soon jump about at
    0.1, and what rounding changes in step 6 is another model by step 15.
    """
    given = yaml.safe_load((place / "sft.yaml").read_text())
    given["stages"]["sft"]["optimizer"]["learning_rate"] = 0.01
    (place / "sft_adapters.yaml").write_text(yaml.safe_dump(given))
    for count in (1, 2):
        output = place / f"adapters_{count}"
        commands = [
            f"train {stage} --config {place}/{config}.yaml --output {output}/{stage} "
            "--adapter.rank 2".split()
            for stage, config in (("sft", "sft_adapters"), ("grpo", "grpo"))
        ]
        with Job(count, *commands, devices=DEVICES // count) as job:
            job.ends([0] * count)
    for metrics in ("sft/sft/metrics.jsonl", "grpo/metrics.jsonl"):
        found, wanted = (read_metrics(place / f"adapters_{n}" / metrics) for n in (2, 1))
        assert [row["step"] for row in found] == [row["step"] for row in wanted]
        for row, other in zip(found, wanted, strict=True):
            for name in ("train/loss", "train/grad_norm"):
                assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name
    for stage in ("sft", "grpo"):
        file = f"{stage}/model/adapter_model.safetensors"
        found, wanted = (load_file(place / f"adapters_{n}" / file) for n in (2, 1))
        for name, tensor in wanted.items():
            largest = np.abs(tensor).max()
            np.testing.assert_allclose(
                found[name], tensor, rtol=0, atol=1e-3 * largest, err_msg=name
            )


@pytest.mark.slow
def test_judge(alone, together):
    found, wanted = (read(run / "verdicts.jsonl") for run in (together, alone))
    assert said(found) == said(wanted)
    assert sum("judgments" in row for row in found) == len(ROWS)
    assert sum("error" in row for row in found) == 1
    for row, other in zip(found, wanted, strict=True):
        for judgment, same in zip(
            row.get("judgments", ()), other.get("judgments", ()), strict=True
        ):
            for name in ("logprob", "meta"):
                assert judgment[name] == pytest.approx(same[name], abs=1e-3)


def said(row):
    """A row without what rounding changes."""
    if isinstance(row, dict):
        return {k: said(v) for k, v in row.items() if k not in ("logprob", "meta")}
    return [said(part) for part in row] if isinstance(row, list) else row


@pytest.mark.slow
def test_sft_that_sigterm_stopped_in_two_processes_goes_on_in_one(place, tmp_path):
    """SIGTERM to one of them is enough; what is saved does not depend on how many they were."""
    train = ["train", "sft", "--config", str(place / "sft.yaml"), "--output"]
    with first_devices(DEVICES):
        assert main([*train, str(tmp_path / "whole")]) == 0
    stopped = tmp_path / "stopped"
    metrics = stopped / "sft" / "metrics.jsonl"
    with Job(2, [*train, str(stopped)], devices=DEVICES // 2) as job:
        job.until(lambda: lines(metrics) >= 3)
        job.processes[1].send_signal(signal.SIGTERM)
        job.ends([1, 1])
        assert "Stopped after step" in job.told(0)
    assert 3 <= lines(metrics) < STEPS
    checkpoints = [path.name for path in (stopped / "sft" / "checkpoints").glob("[0-9]*")]
    assert checkpoints == [str(lines(metrics))]
    with first_devices(DEVICES):
        assert main([*train, str(stopped)]) == 0
    numbers = ("train/loss", "train/grad_norm", "data/tokens", "data/target_tokens")
    same_run(stopped, tmp_path / "whole", "sft/metrics.jsonl", numbers)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_sentence(killed, tmp_path):
    """Whatever the command does: here it only waits for the other, again and again."""
    waiting = """
from pathlib import Path
from grm_jax import processes
from grm_jax.cli import judge

def run(command):
    while True:
        processes.wait()
        Path(command.output).touch()

judge.run = run
"""
    begun = tmp_path / "begun"
    command = ["judge", "--input", "rows.jsonl", "--output", str(begun)]
    with Job(2, command, before=waiting, devices=1, GRM_HEARTBEAT_SECONDS="10") as job:
        job.until(begun.exists)
        job.processes[killed].kill()
        job.ends([None, None], limit=30)
        assert job.processes[1 - killed].returncode not in (0, -signal.SIGKILL)
        # Process 0 is JAX's coordinator: of its end JAX itself may tell first.
        told = job.told(1 - killed)
        assert SENTENCE in told or (killed == 0 and JAXS_SENTENCE in told)


def test_what_the_first_finds_is_what_all_are_told():
    assert processes.from_first(lambda: ["a", 1]) == ["a", 1]
    with pytest.raises(ValueError, match="no good"):
        processes.from_first(lambda: (_ for _ in ()).throw(ValueError("no good")))
