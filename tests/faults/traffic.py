"""Ten thousand requests, good, bad and odd, to a server that is a process of its own.

    python -m tests.faults.traffic --requests 10000

Every good one must be answered as the judge answers without a server, bit for bit; every bad one
with a 4xx and a sentence; nothing may be a 5xx, end the process, stay behind in it, or make it
grow: at the end it may hold `LEVEL` of the memory that it held after a fifth of them. Prints how
often each kind was sent, and what was wrong; exits with 1 if anything was. `make test` sends a few
hundred (`tests/serve/test_server.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from urllib.parse import urlsplit

import httpx

from benchmarks.serve import Running, running
from grm_jax import Judge
from grm_jax.bench.judging import held_out
from tests.faults.traffic_bad import RAW, bad
from tests.faults.traffic_requests import LIMITS, SLOTS, Asked, K, Known, good, odd

CALLERS = 32
LEVEL = 1.05
_JSON = {"Content-Type": "application/json"}


def requests(seed: int, known: Known) -> Iterator[Asked]:
    """Without end: half of them good, a quarter bad, a quarter odd."""
    rng = random.Random(seed)
    while True:
        yield rng.choice((good, good, bad, odd))(rng, known)


async def send(url: str, asked: Iterator[Asked], callers: int) -> tuple[Counter[str], list[str]]:
    """How often each kind was sent, and what was wrong with answers."""
    sent: Counter[str] = Counter()
    wrong: list[str] = []

    async def caller(client: httpx.AsyncClient) -> None:
        for one in asked:
            sent[one.name] += 1
            headers = _JSON | dict(one.headers)
            try:
                answer = await client.request(
                    one.method, one.path, content=one.content, headers=headers
                )
                said = one.check(answer)
            except Exception as error:
                said = repr(error)
            if said:
                wrong.append(f"{one.name}: {said}\n  sent: {(one.content or b'')[:500]!r}")

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        await asyncio.gather(*(caller(client) for _ in range(callers)))
    return sent, wrong


async def send_raw(url: str, rng: random.Random, count: int) -> list[str]:
    """Bad HTTP, and callers that leave before they are answered; what was wrong with answers."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    wrong = []
    for _ in range(count):
        content = rng.choice(RAW)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(content)
        if rng.random() < 0.5:  # else it leaves at once
            answer = b""
            with suppress(OSError):
                writer.write_eof()
                answer = await reader.read(100)
            if answer and not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")):
                wrong.append(f"raw: {answer!r}\n  sent: {content[:200]!r}")
        writer.close()
    return wrong


def left_behind(url: str) -> list[str]:
    """What a server still has under way, and what failed in it, after all callers have gone."""
    for _ in range(6000):
        text = httpx.get(f"{url}/metrics", timeout=600).text
        if "grm_unfinished 0.0" in text:
            break
        time.sleep(0.1)
    wanted = ("grm_unfinished 0.0", "grm_faults_total 0.0", "grm_ready 1.0")
    return [f"/metrics does not say {line}" for line in wanted if line not in text]


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    known = Known(Judge.load("tiny", slots=SLOTS), held_out(24))
    limits = [f"--limits.{name}={value}" for name, value in vars(LIMITS).items()]
    sent: Counter[str] = Counter()
    wrong: list[str] = []
    memory: list[float] = []
    with running("--port=0", f"--k={K}", f"--slots={SLOTS}", *limits) as server:
        asked = requests(chosen.seed, known)
        rng = random.Random(chosen.seed)
        part = -(-chosen.requests // 10)
        for _ in range(10):
            begun = time.monotonic()
            counted, faults = asyncio.run(send(server.url, islice(asked, part), CALLERS))
            faults += asyncio.run(send_raw(server.url, rng, part // 20))
            sent, wrong = sent + counted, wrong + faults
            print(*faults, sep="\n", end="\n" if faults else "")
            assert server.process.poll() is None, "the process has ended"
            memory.append(server.memory)
            print(
                f"{sum(sent.values())} requests, {len(wrong)} wrong, {memory[-1]:.0f} MB, "
                f"{_open_files(server)} open files, {time.monotonic() - begun:.0f} s",
                flush=True,
            )
        last = left_behind(server.url)
    if memory[-1] > LEVEL * memory[1]:
        last.append(f"the process grew from {memory[1]:.0f} to {memory[-1]:.0f} MB")
    wrong += last
    for name, count in sorted(sent.items()):
        print(f"{count:6} {name}")
    print(*last, f"{sum(sent.values())} requests, {len(wrong)} wrong", sep="\n")
    return int(bool(wrong))


def _open_files(server: Running) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


if __name__ == "__main__":
    sys.exit(main())
