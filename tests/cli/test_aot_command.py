"""`grm aot` with the real TPU compiler on the tiny model: what it counts, and what it refuses."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from grm_jax.aot.measure import Cost
from grm_jax.cli import main
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model
from tests.processes import QUICK

TINY = ["aot", "--preset", "tiny", "--topology", "v5e:2x2", "--length", "384"]


def compiled(tmp_path, *options):
    output = tmp_path / "new" / "cost.json"
    assert main([*TINY, *options, "--output", str(output)]) == 0
    return json.loads(output.read_text())


@pytest.mark.slow
def test_a_training_step_does_what_was_counted(tmp_path, capsys):
    cost = compiled(tmp_path, "--program", "grpo-step", "--sequences", "16", "--mesh.fsdp", "4")
    assert cost["flops"] == pytest.approx(cost["flops_analytic"], rel=0.05)
    assert cost["mesh"] == {"data": 1, "fsdp": 4, "tensor": 1}
    weights = Model(PRESETS["tiny"]).num_params()
    # f32 weights and two moments; memory has tiles, which such small arrays do not fill.
    assert 1 < cost["arguments"] / (3 * 4 * weights / 4) < 4
    assert cost["resident"] > 0
    assert cost["output"] < 1e5  # the new state takes the old one's place
    assert cost["fits"]
    assert cost["sent"]["all-gather"] > 0
    assert 0 < cost["mfu"] <= 1
    assert cost["seconds"] == max(cost[f"seconds_{x}"] for x in ("compute", "memory", "network"))
    shown = capsys.readouterr().out
    assert "fits: " in shown
    assert f"bound by {cost['bound']}" in " ".join(shown.split())


@pytest.mark.slow
def test_decoding_reads_its_weights_once_per_token(tmp_path):
    new = 64
    options = (
        "--program",
        "decode",
        "--sequences",
        "4",
        "--new",
        str(new),
        "--mesh",
        "{fsdp: 1, tensor: 2, data: 2}",
    )
    cost = compiled(tmp_path, *options)
    assert cost["flops"] == pytest.approx(cost["flops_analytic"], rel=0.05)
    weights = 2 * Model(PRESETS["tiny"]).num_params() / 2
    assert cost["tokens_per_second"] > 0
    # A small model lies in the fast memory; then it is read once, not once per token.
    assert cost["moved"] < 4 * new * weights


@pytest.mark.slow
def test_decoding_writes_its_caches_in_place(tmp_path, monkeypatch):
    """Beside weights and caches there is nothing large: no copy of either in another layout.

    Of two layers as the 2b has them. The heads of 32 that `tiny` has are laid out anew to fill the
    lanes; for that program libtpu 0.0.50 reports temporaries as large as the caches, 0.0.42 none.
    """
    layers, rows, new = 2, 32, 512
    config = replace(PRESETS["2b"], num_layers=layers, vocab_size=1024)
    monkeypatch.setitem(PRESETS, "tiny", config)
    work = ["--sequences", f"{2 * rows}", "--length", "2048", "--new", f"{new}"]
    mesh = ["--mesh", "{fsdp: 1, tensor: 2, data: 2}"]
    cost = compiled(tmp_path, "--program", "decode", *work, *mesh)
    keys = 2 * rows * new * config.num_kv_heads // 2 * config.head_dim  # of a layer, in bytes
    assert 2 * layers * keys < cost["arguments"]
    assert cost["temporaries"] < 0.7 * keys
    drawn = new * rows * 3 * 4  # a device's tokens, their log-probabilities and whose they are
    assert cost["output"] < drawn + 0.01 * cost["arguments"]


@pytest.mark.slow
def test_a_straight_line_from_few_layers_leads_to_the_whole_program(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], num_layers=6))
    monkeypatch.setattr("grm_jax.aot.layers.FIRST", 2)
    monkeypatch.setattr("grm_jax.aot.layers.MORE", 2)
    work = ["--program", "decode", "--sequences", "8", "--new", "8", "--mesh.data", "4"]
    # On a v5e, programs as small as these lie on no line: two layers need memory, and four none.
    work += ["--topology", "v5p:2x2x1"]
    line = compiled(tmp_path, *work, "--extrapolate", "true")
    assert "with 2 and with 4 of 6 layers" in capsys.readouterr().out
    whole = compiled(tmp_path, *work)
    assert line["layers"] == [2, 4]
    assert whole["layers"] is None
    # What is moved is on no line: a program as small as this leaves most of it in fast memory.
    for name in ("flops", "arguments", "peak"):
        assert line[name] == pytest.approx(whole[name], rel=0.02)
    assert line["collectives"] == whole["collectives"]
    assert line["flops_analytic"] == whole["flops_analytic"]


@pytest.mark.parametrize(
    ("program", "peak", "tried"),
    [
        ("rft-step", 80.0, ["dots"]),
        ("rft-step", 81.0, ["dots", "full"]),
        ("grpo-step", None, ["dots", "full"]),  # the compiler itself refuses it
        ("decode", 99.0, ["full"]),  # keeps nothing
    ],
)
def test_remat_auto_keeps_products_where_that_leaves_room(
    tmp_path, monkeypatch, program, peak, tried
):
    asked = []

    def build(name, config, devices, work, mesh):
        asked.append(work.remat)
        return SimpleNamespace(mesh=SimpleNamespace(shape={"tensor": 4}))

    def measure(built, topology):
        taken = peak if asked[-1] == "dots" else 50.0
        reason = None if taken else "needs 20G of 16G"
        done = {"compile_seconds": 1.0, "host_bytes": 1.0, "reason": reason}
        return Cost(taken is not None, 4, 100.0, 0.0, peak=taken, **done), None

    monkeypatch.setattr("grm_jax.cli.aot.build", build)
    monkeypatch.setattr("grm_jax.cli.aot.measure", measure)
    cost = compiled(tmp_path, "--program", program, "--remat", "auto")
    assert asked == tried
    assert cost["remat"] == tried[-1]


@pytest.mark.slow
def test_what_does_not_fit_is_told(tmp_path, capsys):
    output = tmp_path / "cost.json"
    options = [
        "--program",
        "decode",
        "--sequences",
        "1048576",
        "--new",
        "256",
        "--output",
        str(output),
    ]
    assert main([*TINY, *options]) == 1
    cost = json.loads(output.read_text())
    assert not cost["fits"]
    shown = capsys.readouterr().out
    assert "does not fit" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--preset", "3b"], "preset is '3b'"),
        (["--program", "sft"], "program is 'sft'"),
        (["--topology", "v5e"], "give a kind of chip"),
        (["--topology", "v5e:3x5"], "has no v5e:3x5"),
        (["--sequences", "0"], "sequences is 0"),
        (["--sequences", "6", "--mesh.fsdp", "4"], "multiple of 4"),
        (["--extrapolate", "true"], "extrapolate is for prefill and decode: rft-step"),
        (["--extrapolate", "true", "--program", "decode"], "repeats 4 layers"),
        (["--extrapolate", "true", "--program", "decode", "--save", "new"], "no whole program"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(capsys, options, said):
    assert main([*TINY, *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_an_installed_tpu_compiler_does_not_trouble_a_machine_without_a_tpu():
    code = "import sys; from grm_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    root = str(Path(__file__).resolve().parents[2])
    env = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    command = [sys.executable, "-c", code, "eval", "--limit", "1", "--k", "1", "--slots", "1"]
    env |= {"PYTHONPATH": root, "XLA_FLAGS": QUICK}
    child = subprocess.run(command, env=env, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "TPU" not in child.stderr
