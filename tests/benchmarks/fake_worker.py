"""A worker whose answers are made up: doubles a number, prints where it should not, fails."""

import os
import sys

from benchmarks.peers.protocol import serve


def double(value: int) -> dict:
    print("a library says something")
    return {"value": 2 * value}


def sample(way: str, k: int, seed: int) -> dict:
    if way == "broken":
        raise ValueError("no such way")
    return {"seconds": float(way) * k, "seed": seed}


def leave() -> dict:
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os._exit(3)


if __name__ == "__main__":
    serve({"double": double, "sample": sample, "leave": leave})
