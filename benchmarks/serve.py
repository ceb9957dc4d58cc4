"""`python -m benchmarks.serve`: a live server under load, and whether its answers are right.

OpenRLHF-shaped callers, one response each, 1, 8 and 64 at a time, in turns; their rewards against
those of `grm judge` on the same rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from grm_jax.bench.judging import held_out
from grm_jax.text.messages import Example

CALLERS = (1, 8, 64)


@dataclass
class Running:
    """A server of our own."""

    process: subprocess.Popen[str]
    url: str

    @property
    def memory(self) -> float:
        """Of the process, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else float("nan")

    @property
    def work(self) -> float:
        """Seconds of processor time so far, which a busy machine changes little."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(*options: str) -> Iterator[Running]:
    """`grm serve` until it is ready, and then until the block ends."""
    command = [sys.executable, "-m", "grm_jax", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = re.search(r"http://\S+?(?=;)", process.stdout.readline())
            assert told is not None, "the server did not start"
            while httpx.get(f"{told[0]}/ready", timeout=600).status_code != 200:
                time.sleep(0.1)
            yield Running(process, told[0])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def singles(count: int) -> list[Example]:
    """Held-out items of the small world with one response each, in which there is something:
    `grm judge` takes no row whose only response is blank."""
    rows = [replace(item, responses=item.responses[:1], label=None, scores=None, reference=None)
            for item in held_out(2 * count)]  # fmt: skip
    rows = [row for row in rows if row.responses[0].strip()][:count]
    return [replace(row, id=str(number)) for number, row in enumerate(rows)]


def get_reward(row: Example) -> dict[str, Any]:
    """What OpenRLHF sends of it."""
    prompt = f"<|im_start|>user\n{row.prompt[-1].content}<|im_end|>\n<|im_start|>assistant\n"
    query = f"{prompt}{row.responses[0]}<|im_end|>\n"
    return {"query": [query], "prompts": [prompt], "labels": [None]}


def judged(rows: list[Example], *options: str) -> dict[str, float | None]:
    """The mean score that `grm judge` gives each row; None where it has no verdict."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "rows.jsonl"), Path(folder, "verdicts.jsonl")
        lines = [
            {"id": row.id, "prompt": row.prompt[-1].content, "responses": list(row.responses)}
            for row in rows
        ]
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
        command = [sys.executable, "-m", "grm_jax", "judge", "--input", str(source)]
        subprocess.run([*command, "--output", str(target), *options], check=True)
        found = [json.loads(line) for line in target.read_text().splitlines()]
    return {line["id"]: line.get("mean_scores", [None])[0] for line in found}


async def ask_all(
    url: str, rows: list[Example], callers: int
) -> tuple[float, list[float], dict[str, float | None]]:
    """Seconds in all, seconds of each, and rewards by id, of so many callers at a time."""
    left, seconds, rewards = iter(rows), [], {}
    limits = httpx.Limits(max_connections=None)

    async def caller(client: httpx.AsyncClient) -> None:
        for row in left:
            begun = time.perf_counter()
            answer = await client.post("/get_reward", json=get_reward(row))
            seconds.append(time.perf_counter() - begun)
            rewards[row.id] = answer.json()["rewards"][0] if answer.status_code == 200 else None

    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(callers)))
        return time.perf_counter() - begun, seconds, rewards


def load(options: argparse.Namespace) -> dict[str, Any]:
    """The table of callers, and whether rewards are those of `grm judge`."""
    rows = singles(options.requests)
    k = ("--k", str(options.k), "--model", options.model)
    expected = judged(rows, *k)
    table = []
    with running("--port", "0", *k) as server:
        asyncio.run(ask_all(server.url, rows[:64], 64))  # connections and code are warm
        for turn in range(options.repeats):  # interleaved: the machine may be busy in between
            for callers in CALLERS:
                some = rows if callers > 1 else rows[: max(len(rows) // 8, 1)]
                before = server.work
                total, seconds, rewards = asyncio.run(ask_all(server.url, some, callers))
                work = (server.work - before) / len(some)
                wrong = [i for i in rewards if rewards[i] != expected[i]]
                cuts = statistics.quantiles(seconds, n=20, method="inclusive")
                line = {
                    "turn": turn, "callers": callers, "requests": len(some),
                    "per_second": len(some) / total, "p50": statistics.median(seconds),
                    "p95": cuts[18], "processor_seconds": work, "other_than_grm_judge": len(wrong),
                }  # fmt: skip
                table.append(line)
                print(line, flush=True)
    print(_page(table))
    return {"load": table, "gain": _gain(table)}


def _page(table: list[dict[str, Any]]) -> str:
    """The table for a page: medians over the turns, and the lowest and the highest."""
    lines = ["| callers | requests per second | p50, s | p95, s |", "|---|---|---|---|"]
    for callers in CALLERS:
        turns = [line for line in table if line["callers"] == callers]
        cells = []
        for name in ("per_second", "p50", "p95"):
            values = [line[name] for line in turns]
            low, high = min(values), max(values)
            cells.append(f"{statistics.median(values):.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {callers} | {' | '.join(cells)} |")
    wrong = sum(line["other_than_grm_judge"] for line in table)
    return "\n".join([*lines, f"{wrong} rewards other than those of `grm judge`"])


def _gain(table: list[dict[str, Any]]) -> list[float]:
    """Throughput of most callers against that of one, in each turn."""
    turns: dict[int, dict[int, float]] = {}
    for line in table:
        turns.setdefault(line["turn"], {})[line["callers"]] = line["per_second"]
    return [turn[max(CALLERS)] / turn[1] for turn in turns.values()]


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serve", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", help="a JSON file; by default it is printed alone")
    options = parser.parse_args(arguments)
    result = load(options)
    result |= {"cores": os.cpu_count(), "load_average": os.getloadavg()}
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if options.output:
        Path(options.output).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
