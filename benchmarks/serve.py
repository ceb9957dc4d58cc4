"""`python -m benchmarks.serve`: a live server under load, and what it answers.

load: OpenRLHF-shaped callers, one response each, 1, 8 and 64 at a time; rewards against those of
`grm judge` on the same rows. mixed: good and bad requests of every kind; status, sentence, memory.
kill: the server is killed with requests in flight and started again; every answer still comes.

    python -m benchmarks.serve                            # load
    python -m benchmarks.serve mixed --requests 10000
    python -m benchmarks.serve kill
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from grm_jax.bench.judging import held_out
from grm_jax.client import AsyncClient
from grm_jax.judging.judgment import Verdict
from grm_jax.text.messages import Example

CALLERS = (1, 8, 64)
JSON = {"Content-Type": "application/json"}


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
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = re.search(r"http://\S+?(?=;)", process.stdout.readline())
        assert told is not None, "the server did not start"
        while httpx.get(f"{told[0]}/ready").status_code != 200:
            time.sleep(0.1)
        yield Running(process, told[0])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()


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
    return {"load": table, "gain": _gain(table)}


def _gain(table: list[dict[str, Any]]) -> list[float]:
    """Throughput of most callers against that of one, in each turn."""
    turns: dict[int, dict[int, float]] = {}
    for line in table:
        turns.setdefault(line["turn"], {})[line["callers"]] = line["per_second"]
    return [turn[max(CALLERS)] / turn[1] for turn in turns.values()]


def mixed(options: argparse.Namespace) -> dict[str, Any]:
    """Good and bad requests at random; nothing may be a 5xx, and nothing bad without a sentence."""
    found: Counter[str] = Counter()
    memory: list[float] = []
    with running("--port", "0", "--k", "1", "--model", options.model) as server:
        asyncio.run(ask_all(server.url, singles(64), 64))
        parts = 10
        for part in range(parts):
            asyncio.run(_mixed(server.url, options.requests // parts, part, found))
            memory.append(server.memory)
            print(f"{(part + 1) * options.requests // parts}: {memory[-1]:.0f} MB", flush=True)
        assert server.process.poll() is None
        assert httpx.get(f"{server.url}/ready").status_code == 200
    bad = {name: count for name, count in found.items() if name.startswith("WRONG")}
    return {"answers": dict(sorted(found.items())), "wrong": bad, "memory_mb": memory}


async def _mixed(url: str, count: int, seed: int, found: Counter[str]) -> None:
    rng, rows = random.Random(seed), singles(64)
    left = iter(range(count))

    async def caller(client: httpx.AsyncClient) -> None:
        for _ in left:
            name, path, content, statuses = _request(rng, rng.choice(rows))
            try:
                answer = await client.post(path, content=content, headers=JSON)
            except httpx.TransportError as error:
                found[f"WRONG {name}: {error!r}"] += 1
                continue
            sentence = answer.status_code == 200 or answer.json()["error"]["message"][-1] in ".?!"
            right = answer.status_code in statuses and sentence
            found[f"{'' if right else 'WRONG '}{name} {answer.status_code}"] += 1

    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await asyncio.gather(*(caller(client) for _ in range(32)))


def _request(rng: random.Random, row: Example) -> tuple[str, str, bytes, tuple[int, ...]]:
    """A kind of request, where it goes, its body, and the answers that are right."""
    good = {"prompt": row.prompt[-1].content, "responses": list(row.responses)}
    noise = "".join(chr(rng.randrange(1, 0xD800)) for _ in range(60))
    kinds: dict[str, tuple[str, Any, tuple[int, ...]]] = {
        "judge": ("/v1/judge", good, (200, 422)),  # 422: no sample could be read
        "get_reward": ("/get_reward", get_reward(row), (200, 422)),
        "noise": ("/v1/judge", good | {"responses": [noise]}, (200, 422)),
        "not json": ("/v1/judge", noise.encode(), (400, 422)),
        "not utf-8": ("/v1/judge", rng.randbytes(50), (400, 422)),
        "deep": ("/v1/judge", b'{"prompt":' + b"[" * 5000, (400,)),
        "large": ("/v1/judge", b" " * (2**20 + 1), (413,)),
        "long": ("/v1/judge", good | {"prompt": "word " * 3000}, (422,)),
        "types": ("/v1/judge", good | {"k": rng.choice(["8", 1.5, None, -1, 10**9])}, (200, 422)),
        "field": ("/v1/judge", good | {noise[:5]: 1}, (422,)),
        "model": ("/classify", {"model": "../../etc", "input": "x"}, (404,)),
        "many": ("/rerank", {"query": "q", "documents": ["a"] * 99}, (422,)),
        "chat": ("/v1/chat/completions", {"messages": [{"role": noise}]}, (422,)),
        "path": (f"/{rng.randrange(99)}", good, (404,)),
    }
    name = rng.choice(["judge", "get_reward", *kinds])
    path, body, statuses = kinds[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return name, path, content, statuses


def kill(options: argparse.Namespace) -> dict[str, Any]:
    """Answers before and after a kill in the middle, by the client, which tries again."""
    rows = singles(options.requests)
    told = ("--k", str(options.k), "--model", options.model)
    with running("--port", "0", *told) as server:
        port = server.url.rpartition(":")[2]
        first = asyncio.run(_answers(server.url, rows))
    with running("--port", port, *told) as server:
        again = asyncio.run(_answers(server.url, rows, server, told))
    return {"answers": len(again), "different": sum(first[i] != again.get(i) for i in first)}


async def _answers(
    url: str, rows: list[Example], victim: Running | None = None, told: tuple[str, ...] = ()
) -> dict[str, Verdict | str]:
    """The answers by id. A victim is killed at a third of them, and started again."""
    found: dict[str, Verdict | str] = {}
    second = None
    async with AsyncClient(url, retries=60, backoff=1.0) as client:
        async for result in client.judge_all(rows):
            found[result.id] = result if isinstance(result, Verdict) else result.error
            if victim is not None and second is None and len(found) * 3 >= len(rows):
                victim.process.send_signal(signal.SIGKILL)
                victim.process.wait()
                second = running("--port", url.rpartition(":")[2], *told)
                await asyncio.to_thread(second.__enter__)
    if second is not None:
        second.__exit__(None, None, None)
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serve", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", nargs="?", default="load", choices=("load", "mixed", "kill"))
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", help="a JSON file; by default it is printed alone")
    options = parser.parse_args(arguments)
    result = {"load": load, "mixed": mixed, "kill": kill}[options.what](options)
    result |= {"cores": os.cpu_count(), "load_average": os.getloadavg()}
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if options.output:
        Path(options.output).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
