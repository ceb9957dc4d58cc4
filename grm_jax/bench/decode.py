"""`grm bench`: k samples of one prompt, by our sampler, without sharing, and by transformers.

All rows run the same random weights on the same work, one after the other, repeatedly, and the
result is each row's time against the fastest: machines are noisy, ratios of one run less so.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from grm_jax.bench.config import BenchCommand
from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf import save_folder
from grm_jax.models.model import Model
from grm_jax.outputs import check_file, json_with, write_whole
from grm_jax.paths import expanded
from grm_jax.sampling.engine import Request
from grm_jax.sampling.sampler import Sampler


def run(command: BenchCommand) -> None:
    """Times every way in turns and prints the ratios."""
    if command.output is not None:  # before minutes go into it
        ours = json_with("settings", "seconds", "median")
        check_file(command.output, ours, "a result of grm bench")
    config = Gemma2Config(
        32_000, 6, 512, 1024, 8, 4, 64, 64.0, sliding_window=256,
        max_position=command.prompt + command.new + 1,
    )  # fmt: skip
    model = Model(config)
    params = jax.jit(model.init)(jax.random.key(0))
    tokens = np.random.default_rng(0).integers(500, 32_000, command.prompt).tolist()
    sampler = Sampler(model, params, stop_ids=[], max_new_tokens=command.new, slots=command.k)
    samples = tuple(range(command.k))
    ways: dict[str, Callable[[], object]] = {
        "prompt prefilled and stored once": lambda: list(sampler([Request(tokens, 0, samples)])),
        "k prompts, prefilled and stored k times": lambda: list(
            sampler([Request(tokens, 0, (sample,)) for sample in samples])
        ),
    }
    if find_spec("torch") and find_spec("transformers"):
        ways["transformers generate"] = _transformers(model, params, tokens, command)
    else:
        print("transformers is not measured: it and torch come with the dev extra.")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for draw in ways.values():
        draw()  # compiles
    for _ in range(command.repeats):
        for name, draw in ways.items():
            start = time.perf_counter()
            draw()
            seconds[name].append(time.perf_counter() - start)
    _report(command, seconds)


def _transformers(
    model: Model, params: dict, tokens: list[int], command: BenchCommand
) -> Callable[[], object]:
    """The same weights and work in transformers' own Gemma-2, which prefills each sample."""
    import torch
    from transformers import Gemma2ForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        save_folder(model, params, Path(folder) / "model")
        theirs: Any = Gemma2ForCausalLM.from_pretrained(
            Path(folder) / "model", attn_implementation="eager", dtype=torch.float32
        )
    prompt = torch.tensor([tokens])

    def draw() -> object:
        return theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_k=0,
            num_return_sequences=command.k,
            min_new_tokens=command.new,
            max_new_tokens=command.new,
        )

    return draw


def _report(command: BenchCommand, seconds: dict[str, list[float]]) -> None:
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    fastest = min(medians.values())
    table = Table(
        "way", "seconds (median, range)", "ratio", "new tokens/s",
        title=f"k = {command.k}, {command.prompt} + {command.new} tokens, {jax.devices()[0]}",
    )  # fmt: skip
    for name, times in seconds.items():
        table.add_row(
            name,
            f"{medians[name]:.2f} ({min(times):.2f} to {max(times):.2f})",
            f"{medians[name] / fastest:.2f}",
            f"{command.k * command.new / medians[name]:.0f}",
        )
    Console().print(table)
    if command.output is not None:
        report = {"settings": asdict(command), "seconds": seconds, "median": medians}
        path = expanded(command.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(report, indent=2) + "\n")
