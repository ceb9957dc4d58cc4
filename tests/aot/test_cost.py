"""`grm aot cost`: weights, caches and operations by hand; what is billed; the presets' sizes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from grm_jax import presets
from grm_jax.aot.chips import CHIPS, Chip
from grm_jax.aot.config import SPCTWork, VerdictWork
from grm_jax.aot.spending import chips_to_judge, chips_to_train, spct, verdict
from grm_jax.aot.verdict import cache_size, decoded, judging, rating, weights_read
from grm_jax.cli import main
from grm_jax.models.config import PRESETS
from grm_jax.models.model import Model

# Billions of numbers: of shapes, and as the models' cards have them.
SIZES = {
    "27b": 27.2,
    "gemma3-27b": 27.0,
    "qwen3-8b": 8.19,
    "qwen3-32b": 32.8,
    "llama-70b": 70.6,
    "deepseek-v2-lite": 15.7,
    "deepseek-v2.5": 235.7,
    "deepseek-v3": 671.0,
}
LITE, TINY = Model(PRESETS["deepseek-v2-lite"]), Model(PRESETS["tiny"])
EVEN = Chip(1, 16e9, 1e12, 1e12, 1e9)  # an operation takes as long as a byte


@pytest.mark.parametrize(("preset", "billions"), SIZES.items())
def test_presets_have_the_parameters_of_their_names(preset, billions):
    assert Model(PRESETS[preset]).num_params() / 1e9 == pytest.approx(billions, rel=0.003)


def test_the_roofline_is_the_longer_of_two_times():
    chip = CHIPS["h100"]
    assert chip.seconds(989e12, 0) == chip.seconds(989e12, 3350e9) == 1.0
    assert chip.seconds(1.0, 2 * 3350e9) == 2.0


def test_a_token_reads_the_experts_that_it_goes_to_and_many_read_all():
    expert = 3 * 2048 * 1408  # of 64, of which a token goes to 6
    idle = 26 * (64 - 6) * expert
    table = 102_400 * 2048  # looked up; the head has its own
    assert weights_read(LITE, 1) == 2 * (LITE.num_params() - table - idle)
    assert weights_read(LITE, 10_000) == pytest.approx(2 * (LITE.num_params() - table))
    assert weights_read(TINY, 1) == weights_read(TINY, 64) == 2 * TINY.num_params()


def test_latents_are_cached_once_and_windows_stop_a_cache():
    assert cache_size(LITE, 100) == 2 * 27 * 576 * 100
    number = 2 * 2 * 2 * 32  # bytes of keys and values of 2 heads of 32
    assert cache_size(TINY, 100) == number * (2 * 100 + 2 * 48)


def test_samples_share_their_prompt_and_slots_their_weights():
    """On a chip where memory is all that counts, and one where arithmetic is."""
    slow, prompt, new = replace(EVEN, hbm_bandwidth=1.0), 40, 3
    prefill = judging(TINY, slow, 1, prompt, new, 1) - new * (
        weights_read(TINY, 1) + cache_size(TINY, prompt) + cache_size(TINY, 2)
    )
    for k, slots in ((1, 8), (8, 8), (4, 8)):
        read = weights_read(TINY, 8) + 8 / k * cache_size(TINY, prompt) + 8 * cache_size(TINY, 2)
        assert judging(TINY, slow, k, prompt, new, slots) - prefill == pytest.approx(
            k * new * read / 8
        )
    weak = replace(EVEN, flops=1.0, hbm_bandwidth=1e30)
    more = judging(TINY, weak, 9, prompt, new, 8) - judging(TINY, weak, 8, prompt, new, 8)
    assert more == pytest.approx(new * decoded(TINY, prompt, new))
    one, two = (rating(TINY, weak, k, prompt, new) for k in (1, 2))
    assert one < two < 1.2 * one  # the prompt is read once


def test_spct_does_as_much_as_its_preset_says():
    told = yaml.safe_load(Path(presets.find("train", "spct_27b")).read_text())
    rft, rl, meta, measured = (told[x] for x in ("rft", "grpo", "meta_rm", "evaluation"))
    work = SPCTWork()
    assert (work.n_plain, work.n_hinted, work.rft_steps) == (
        *(rft["n_plain"], rft["n_hinted"], rft["steps"]),
    )
    assert (work.rft_batch, work.length) == (rft["batch"]["sequences"], rft["batch"]["length"])
    assert (work.rl_steps, work.rl_batch, work.group) == (
        *(rl["steps"], rl["per_step"], rl["group"]),
    )
    assert work.n_filter == rl["filter"]["n"]
    assert (work.n_meta, work.meta_steps, work.meta_batch) == (
        *(meta["n"], meta["steps"], meta["batch"]["sequences"]),
    )
    assert work.meta_items * work.n_meta == work.meta_steps * work.meta_batch
    assert (work.k, work.k_start) == (measured["k"], measured["k_start"])


def test_stages_cost_as_much_as_they_do():
    work, plan = VerdictWork(4, 64, 8, 8), SPCTWork(items=100, length=64)
    once = spct(TINY, TINY, EVEN, work, plan)
    twice = replace(plan, items=200, rft_steps=1800, rl_steps=1800, meta_items=128_000, rows=5970)
    both = spct(TINY, TINY, EVEN, work, replace(twice, meta_steps=1000))
    assert both == {name: pytest.approx(2 * cost) for name, cost in once.items()}
    none = SPCTWork(items=0, rft_steps=0, rl_steps=0, meta_items=0, meta_steps=0, rows=0)
    assert set(spct(TINY, TINY, EVEN, work, none).values()) == {0.0}
    rated = verdict(TINY, EVEN, replace(work, meta_rm=True))
    assert verdict(TINY, EVEN, work) == {"samples": rated["samples"]}


def test_chips_are_as_many_as_hold_what_lies_in_memory():
    work = VerdictWork(k=1, slots=64)
    chips = {name: chips_to_judge(Model(PRESETS[name]), CHIPS["v5p"], work) for name in SIZES}
    assert chips == {
        "27b": 1, "gemma3-27b": 2, "qwen3-8b": 1, "qwen3-32b": 1, "llama-70b": 2,
        "deepseek-v2-lite": 1, "deepseek-v2.5": 8, "deepseek-v3": 16,
    }  # fmt: skip
    assert chips_to_train(Model(PRESETS["27b"]), CHIPS["h100"]) == 8


def test_the_command_bills_chip_hours_at_the_efficiency(tmp_path, capsys):
    output = tmp_path / "new" / "cost.json"
    words = ["aot", "cost", "--preset", "tiny", "--chip", "a100", "--price", "2"]
    words += ["--efficiency", "0.5", "--output", str(output), "--verdict.k", "4"]
    for _ in range(2):  # its own file is written anew
        assert main(words) == 0
    made = json.loads(output.read_text())
    assert made["verdict"]["k"] == 4
    hours = sum(made["seconds_spct"].values()) / 3600
    shown = capsys.readouterr().out
    cells = [f"{value:.3g}" for value in (hours, hours / 0.5, hours / 0.5 * 2)]
    assert [x.strip() for x in shown.splitlines()[-2].split("\u2502")[2:-1]] == cells


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--preset", "3b"], "preset is '3b'"),
        (["--chip", "v4"], "chip is 'v4'; the chips are v5e"),
        (["--efficiency", "0"], "efficiency is 0.0"),
        (["--price", "-1"], "price is -1.0"),
        (["--verdict.k", "0"], "k is 0"),
        (["--spct.items", "-1"], "items is -1"),
        (["--spct.small", "3b"], "small is '3b'"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(capsys, options, said):
    assert main(["aot", "cost", *options]) == 2
    assert said in capsys.readouterr().err
