"""`grm aot matrix`: every combination once, kept line by line; what follows for SPCT; the page."""

import json
from dataclasses import replace

import pytest

from grm_jax.aot import matrix
from grm_jax.aot.config import GroupConfig
from grm_jax.aot.matrix import commands, fill, read
from grm_jax.aot.page import page
from grm_jax.aot.plan import plans, smallest, verdicts
from grm_jax.cli import main

GROUP = GroupConfig(("2b", "9b"), ("v5e:4x4", "v5p:2x2x1"), ("rft-step", "decode"), length=512)


def row(preset, topology, program, *, sequences=512, group=4, seconds=2.0, peak=8.0, fits=True):
    """What `grm aot` writes, as far as a plan needs it, with times and sizes of whole numbers."""
    return {
        "command": f"grm {preset} {topology} {program}",
        "preset": preset,
        "topology": topology,
        "program": program,
        "sequences": sequences,
        "group": group,
        "mesh": {"data": 2, "fsdp": 1, "tensor": 4},
        "length": 1024,
        "new": 280,
        "fits": fits,
        "hbm": 16.0,
        "resident": 2.0,
        "arguments": 4.0,
        "temporaries": 3.0,
        "output": 1.0,
        "peak": peak,
        "flops": 1e15,
        "flops_analytic": 1e15,
        "seconds": seconds,
        "seconds_compute": seconds,
        "seconds_memory": 1.0,
        "seconds_network": 0.0,
        "bound": "compute",
        "tokens_per_second": 1e6,
        "mfu": 0.5,
        "compile_seconds": 1.0,
        "host_bytes": 2.0**30,
        "reason": None,
    }


def spct(preset, topology, **options):
    work = {"rft-step": 1024, "grpo-step": 512, "grpo-score": 512, "prefill": 128, "decode": 128}
    return [row(preset, topology, name, sequences=n, **options) for name, n in work.items()]


def test_every_combination_is_a_command_of_its_own():
    told = [" ".join(words) for words in commands([GROUP])]
    assert len(told) == len(set(told)) == 8
    assert told[0] == (
        "aot --preset 2b --topology v5e:4x4 --program rft-step --sequences 1024 --group 0 "
        "--length 512 --new 1024"
    )
    assert sum("--program decode --sequences 32" in x for x in told) == 4
    again = commands([replace(GROUP, remat="auto")])
    assert [" ".join(words) for words in again] == [f"{x} --remat auto" for x in told]
    short = commands([replace(GROUP, programs=("decode",), extrapolate=True)])
    assert all(words[-2:] == ("--extrapolate", "true") for words in short)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"presets": ("3b",)}, "presets has '3b'"),
        ({"programs": ("sampler",)}, "programs has 'sampler'"),
        ({"topologies": ("v5e",)}, "topology is 'v5e'"),
        ({"extrapolate": True}, "extrapolate is for prefill and decode: rft-step"),
    ],
)
def test_what_is_none_is_refused_before_anything_is_compiled(change, said):
    with pytest.raises(ValueError, match=said):
        replace(GROUP, **change)


def test_what_is_done_is_not_done_again_and_what_failed_is(tmp_path, monkeypatch):
    data, compiled, broken = tmp_path / "new" / "data.jsonl", [], {"decode"}

    def compile_one(words):
        compiled.append(words)
        program = words[words.index("--program") + 1]
        return {"error": "no such slice"} if program in broken else {"program": program}

    monkeypatch.setattr(matrix, "compile_apart", compile_one)
    rows = fill([GROUP], data, lambda text: None)
    assert len(compiled) == len(rows) == 8
    assert sum("error" in r for r in rows) == 4
    broken.clear()
    again = fill([GROUP], data, lambda text: None)
    assert len(compiled) == 8 + 4
    assert [r["program"] for r in again] == ["rft-step", "decode"] * 4
    assert sorted(r["command"] for r in read(data)) == sorted(r["command"] for r in again)
    data.write_text(data.read_text() + "cut o")
    with pytest.raises(ValueError, match=r"data\.jsonl:13: this is not a line"):
        fill([GROUP], data, lambda text: None)


def test_a_plan_adds_up_what_a_step_runs():
    (plan,) = plans(spct("2b", "v5e:4x4", seconds=3.0))
    assert plan.rft_step == 3.0
    assert plan.rft_hours == 900 * 3.0 / 3600
    assert plan.rl_step == 3.0 + 3.0 + (512 / 128) * (3.0 + 3.0)
    assert plan.rl_hours == 900 * 30.0 / 3600
    assert plan.fits
    assert plan.used == (8 + 2) / 16


def test_what_a_judge_draws_is_no_rollout():
    rollouts = spct("2b", "v5e:4x4")
    judge = [
        row("2b", "v5e:4x4", name, sequences=32, group=0, seconds=0.1)
        for name in ("prefill", "decode")
    ]
    assert plans(rollouts + judge) == plans(judge + rollouts) == plans(rollouts)


def test_a_plan_that_misses_a_program_says_nothing_of_it():
    rows = [r for r in spct("2b", "v5e:4x4") if r["program"] != "decode"]
    (plan,) = plans(rows)
    assert (plan.fits, plan.rl_hours, plan.rft_hours) == (None, None, 900 * 2.0 / 3600)
    assert smallest([plan]) == []
    assert plans([row("2b", "v5e:4x4", "decode")]) == []


def test_the_smallest_slice_is_one_that_fits():
    small = [*spct("2b", "v5e:2x2")[:4], row("2b", "v5e:2x2", "decode", sequences=128, fits=False)]
    rows = [*spct("2b", "v5e:8x8"), *small, *spct("2b", "v5e:4x4"), *spct("2b", "v6e:2x4")]
    made = plans(rows)
    assert [p.chips for p in made] == [4, 16, 64, 8]
    # Of v6e there is one alone: it is the smallest of nothing.
    assert [p.topology for p in smallest(made)] == ["v5e:4x4"]
    assert page(rows).count("smallest of these that fits") == 1


@pytest.mark.parametrize(("group", "k"), [(4, 4), (0, 64), (256, 64)])
def test_a_verdict_is_a_prefill_and_its_share_of_the_tokens_drawn(group, k):
    """Two lanes share 128 samples: a prompt has at most the 64 of its lane."""
    rows = [
        row("27b", "v5p:2x2x2", name, sequences=128, group=group, seconds=seconds)
        for name, seconds in (("decode", 3.0), ("prefill", 1.0))
    ]
    (verdict,) = verdicts([*rows, row("27b", "v5p:2x2x2", "decode", sequences=64)])
    assert (verdict.k, verdict.chips, verdict.fits) == (k, 8, True)
    assert verdict.chip_seconds == 8 * 4.0 * k / 128
    assert verdict.thousand == 1000 * verdict.chip_seconds / 3600
    large = verdicts([rows[0] | {"seconds": None, "peak": None, "fits": False}, rows[1]])[0]
    assert (large.chip_seconds, large.thousand, large.fits) == (None, None, False)
    assert "does not fit" in page([*rows, rows[0] | {"fits": False}])


def test_the_page_shows_every_row_and_loads_nothing():
    large = row("27b", "v5e:2x2", "rft-step", fits=False) | {"peak": None, "reason": "needs 40G"}
    failed = {"command": "grm aot --program <b>", "error": "no such slice"}
    text = page([*spct("2b", "v5e:4x4"), large, failed])
    assert text.count('<th scope="row">') == 2 + 1 + 6  # plans, verdicts and programs
    assert "does not fit: needs 40G" in text
    assert "no such slice" in text
    assert "<b>" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text == page([*spct("2b", "v5e:4x4"), large, failed])


@pytest.mark.slow
def test_the_command_compiles_writes_and_goes_on(tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(
        "groups:\n- {presets: [tiny], topologies: ['v5e:2x2'], programs: [meta-score, prefill], "
        "sequences: 4, length: 256, new: 8}\n"
    )
    words = ["aot", "matrix", str(file), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    rows = [json.loads(x) for x in (tmp_path / "out" / "data.jsonl").read_text().splitlines()]
    assert [r["program"] for r in rows] == ["meta-score", "prefill"]
    assert all(r["fits"] and r["flops"] > 0 for r in rows)
    assert "meta-score" in (tmp_path / "out" / "index.html").read_text()
    assert "2 of 2 programs" in capsys.readouterr().out
    assert main(words) == 0
    assert "1 of 2:" not in capsys.readouterr().err
