"""`python -m benchmarks.peers sampler` or `train`: makes the environments, checks that all rows
compute the same, times them in turn, prints ratios and writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peers import shape as shapes
from benchmarks.peers.environments import folder, has_gpu, python_of
from benchmarks.peers.interleave import (
    Disagreement,
    apart,
    check_logits,
    check_losses,
    in_turn,
    summarize,
)
from benchmarks.peers.protocol import Worker, WorkerError
from grm_jax.bench.updates import draw_tokens

BASE = "ours"


@dataclass(frozen=True)
class Row:
    """A line of the table: the module of `rows` that does it, in which environment, which way."""

    module: str
    environment: str
    way: str = ""


SAMPLER = {
    BASE: Row("ours", "ours"),
    "plain JAX": Row("plain", "ours"),
    "transformers": Row("hf", "hf", "eager"),
    "transformers, cache shared": Row("hf", "hf", "shared"),
    "Tunix": Row("tunix", "tunix"),
    "gemma": Row("gemma", "gemma"),
    "vLLM": Row("vllm", "vllm"),
}
TRAIN = {
    BASE: Row("ours", "ours"),
    "ours, remat": Row("ours", "ours", "remat"),  # as the others do
    "plain JAX": Row("plain", "ours"),
    "TRL": Row("hf", "hf"),
    "Tunix": Row("tunix", "tunix"),
}
SAMPLER_WORK = "8x512+128,32x512+128,16x1024+64"
TRAIN_WORK = "grpo:2x4x768+128,grpo:2x4x256+256,sft:2x4x256+256"
# Of logits, f32 and bf16; of losses and gradient norms, relatively.
LOGITS = {"float32": 2e-3, "bfloat16": 0.5}
LOSSES = {"float32": 2e-3, "bfloat16": 0.05}


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if two rows did not compute the same, or ours failed."""
    options = read_options(arguments)
    bench, results, status = Bench(options), {}, 0
    try:
        for work in options.work.split(","):
            measure = bench.sampler if options.what == "sampler" else bench.train
            results[work] = measure(work)
            show(work, results[work])
    except Disagreement as error:  # what was measured before it is still written
        say(str(error))
        status = 1
    finally:
        bench.close()
    if options.output is not None:
        settings = vars(options) | {"rows": list(options.rows)}
        told = {"settings": settings, "machine": machine(), "results": results}
        Path(options.output).write_text(json.dumps(told, indent=1) + "\n")
    return status


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The options, with the work and the rows that are the default of what is measured."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__)
    parser.add_argument("what", choices=("sampler", "train"))
    parser.add_argument("--work", help=f"{SAMPLER_WORK} (k x prompt + new); {TRAIN_WORK}")
    parser.add_argument("--rows", help=f"of {', '.join(SAMPLER)}; TRL; all by default")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--size", choices=shapes.SHAPES, default="small")
    parser.add_argument("--together", action="store_true", help="train: all workers at once")
    parser.add_argument("--output", help="a JSON file")
    options = parser.parse_args(arguments)
    known = SAMPLER if options.what == "sampler" else TRAIN
    options.work = options.work or (SAMPLER_WORK if known is SAMPLER else TRAIN_WORK)
    names = [name.strip() for name in options.rows.split(";")] if options.rows else list(known)
    if strange := [name for name in names if name not in known]:
        parser.error(
            f"there is no row {strange[0]!r}; rows are parted by ; and are {'; '.join(known)}"
        )
    options.rows = {name: known[name] for name in dict.fromkeys((BASE, *names))}
    if options.rounds < 1:
        parser.error("--rounds is less than 1")
    return options


class Bench:
    """Live workers, one for each module, and the files that all of them read."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.gpu = has_gpu()
        self.shape = shapes.SHAPES[options.size]
        self.model = shapes.write_model(self.shape, folder() / "models" / options.size)
        self.workers: dict[str, Worker] = {}
        self.pythons: dict[str, str] = {}
        for name, row in list(options.rows.items()):
            if row.environment not in self.pythons:
                try:
                    self.pythons[row.environment] = python_of(row.environment, gpu=self.gpu)
                except (ValueError, subprocess.CalledProcessError) as error:
                    say(f"{name} is left out: {error}")
                    del options.rows[name]

    def start(self, row: Row) -> Worker:
        """A fresh worker; it loads the model before it answers."""
        environment = {
            "OMP_WAIT_POLICY": "PASSIVE",  # threads of one worker do not spin while another works
            "HF_HUB_OFFLINE": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TPU_SKIP_MDS_QUERY": "1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several workers share a GPU
            **({} if self.gpu else {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}),
        }
        module = f"benchmarks.peers.rows.{row.module}"
        command = [self.pythons[row.environment], "-m", module, str(self.model)]
        return Worker(command, environment, folder() / "logs" / f"{row.module}.log")

    def worker(self, row: Row) -> Worker:
        """The live worker of a row's module."""
        if row.module not in self.workers:
            self.workers[row.module] = self.start(row)
        return self.workers[row.module]

    def sampler(self, work: str) -> dict[str, Any]:
        """k samples of one prompt by all rows; their logits are compared first."""
        k, prompt, new = numbers(work, 3)
        logits = {}
        for name, row in list(self.options.rows.items()):
            try:
                logits[name] = self.worker(row).ask("logits", prompt=prompt)["logits"]
            except WorkerError as error:
                say(f"{name} is left out: {error}")
                del self.options.rows[name]
        far = check_logits(logits, BASE, LOGITS[self.shape.dtype])
        rows = {name: (self.worker(row), row.way) for name, row in self.options.rows.items()}
        say(f"{work}: logits equal within {max(far.values()):.1e}")
        runs = in_turn(rows, self.options.rounds, say, "sample", k=k, prompt=prompt, new=new)
        return {"logits": far, "rows": summarize(runs, BASE, k * new), "runs": runs}

    def train(self, work: str) -> dict[str, Any]:
        """An update by all rows; losses and gradients of the first one are compared."""
        stage, _, sizes = work.partition(":")
        prompts, group, prompt, new = numbers(sizes, 4)
        drawn = draw_tokens(self.shape.vocab_size, prompts, group, prompt, new)
        batch = folder() / "models" / f"{self.options.size}-{sizes}.npz"
        np.savez(batch, **vars(drawn))
        asked = {"stage": stage, "batch": str(batch)}
        say(work)
        if self.options.together:
            rows = {n: (self.worker(row), row.way) for n, row in self.options.rows.items()}
            runs = in_turn(rows, self.options.rounds, say, "update", **asked)
        else:
            rows = self.options.rows
            one = lambda name: (self.start(rows[name]), rows[name].way)  # noqa: E731
            runs = apart(rows, one, self.options.rounds, say, "update", **asked)
        summary = summarize(runs, BASE, prompts * group * (prompt + new))
        first = check_losses(runs, BASE, LOSSES[self.shape.dtype])
        return {"first": first, "rows": summary, "runs": runs}

    def close(self) -> None:
        """Ends the workers."""
        for worker in self.workers.values():
            worker.close()


def numbers(work: str, count: int) -> list[int]:
    """The numbers of "8x512+128".

    Raises:
        ValueError: not so many.
    """
    found = [int(part) for part in work.replace("+", "x").split("x") if part.isdigit()]
    if len(found) != count or min(found) < 1:
        raise ValueError(f"{work!r} is no work: give {count} numbers, as in {SAMPLER_WORK}.")
    return found


def show(work: str, result: dict[str, Any]) -> None:
    """The table for people."""
    table = Table("", "seconds (range)", "/ ours (range)", "tokens/s", "peak memory", title=work)
    for name, row in result["rows"].items():
        low, high = row["ratio_range"]
        times = row["all_seconds"]
        table.add_row(
            name,
            f"{row['seconds']:.2f} ({min(times):.2f} to {max(times):.2f})",
            f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['tokens_per_second']:.0f}",
            f"{row['peak_bytes'] / 2**30:.1f} GiB",
        )
    Console().print(table)


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {"cores": os.cpu_count(), "processor": platform.processor(), "gpu": has_gpu()}


say = partial(print, file=sys.stderr, flush=True)

if __name__ == "__main__":
    sys.exit(main())
