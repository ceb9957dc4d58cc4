"""Every command that computes says once on which devices, and no other command does."""

import pytest

from grm_jax.cli import bench, data, experiment, judge_options, main, train
from grm_jax.cli.commands import STAGES, JudgeOptions, MathPairsConfig
from grm_jax.cli.judge_options import CommandJudge
from grm_jax.judging.server import EndpointConfig

ONE = "Computing on CPU: 1 of 8 devices.\n"
ALL = "Computing on CPU: 8 devices, mesh data=1 fsdp=8 tensor=1"


class Loaded(Exception):
    """A model would be loaded now."""


def load(*arguments, **options):
    raise Loaded


@pytest.mark.parametrize("stage", STAGES)
def test_training_takes_all_devices(stage, monkeypatch, capsys) -> None:
    kept = {kind: (lambda run, cfg: None, "") for kind in train._RUN}
    monkeypatch.setattr(train, "_RUN", kept)
    needed = {"sft": ["--config", "sft_tiny"], "scalar": ["--config", "bt_tiny"]}
    assert main(["train", stage, *needed.get(stage, ())]) == 1
    assert capsys.readouterr().err == f"{ALL}.\n"


def test_stages_that_differ_each_name_their_mesh(monkeypatch, capsys) -> None:
    kept = {kind: (lambda run, cfg: None, "") for kind in train._RUN}
    monkeypatch.setattr(train, "_RUN", kept)
    assert main(["train", "spct", "--rft", "null", "--grpo.compute.mesh.data", "2"]) == 1
    told = capsys.readouterr().err
    assert "mesh data=2 fsdp=4 tensor=1, mesh data=1 fsdp=8 tensor=1" in told
    assert main(["train", "spct", "--grpo.compute.mesh.data", "3"]) == 2
    assert "data=3 fsdp=-1 tensor=1 needs a multiple of 3 devices" in capsys.readouterr().err


def test_a_judge_says_it_before_it_is_loaded(monkeypatch, capsys) -> None:
    monkeypatch.setattr(judge_options, "open_judge", load)
    with pytest.raises(Loaded):
        CommandJudge(JudgeOptions(), pairs=False).source  # noqa: B018
    assert capsys.readouterr().err == ONE
    server = JudgeOptions(endpoint=EndpointConfig("http://x", "m"))
    with pytest.raises(Loaded):
        CommandJudge(server, pairs=False).source  # noqa: B018
    assert capsys.readouterr().err == ""


def test_so_do_the_others(monkeypatch, capsys, tmp_path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr("grm_jax.serve.run.serve", lambda command: 0)
    assert main(["serve"]) == 0
    assert capsys.readouterr().err == ONE

    monkeypatch.setattr(bench, "_RUN", dict.fromkeys(bench._RUN, lambda command: None))
    assert main(["bench"]) == 0
    assert capsys.readouterr().err == ONE

    monkeypatch.setattr(data, "load_model_folder", load)
    with pytest.raises(Loaded):
        data.open_answers(MathPairsConfig("rows.jsonl", model="tiny"))
    assert capsys.readouterr().err == ONE
    data.open_answers(MathPairsConfig("rows.jsonl", endpoint=EndpointConfig("http://x", "m")))
    assert capsys.readouterr().err == ""

    kept = dict.fromkeys(experiment._RUN, lambda config, folder: None)
    monkeypatch.setattr(experiment, "_RUN", kept)
    monkeypatch.setattr(experiment, "_report", lambda findings, folder: 0)
    assert main(["experiment", "scaling", "--output", str(tmp_path / "scaling")]) == 0
    assert capsys.readouterr().err == ONE
    asked = ["--files", "{a: b}", "--output", str(tmp_path / "lengths")]
    assert main(["experiment", "lengths", *asked]) == 0
    assert capsys.readouterr().err == ""
