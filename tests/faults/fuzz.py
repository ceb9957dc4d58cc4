"""Fuzzing: no row, answer of a model, option or answer of a server ends in anything but a sentence.

    python -m tests.faults.fuzz --target rows --seconds 600

Inputs are made by hypothesis. Where atheris is installed (it is no dependency: pip install
atheris), it chooses them by the branches that they reach; else they are random. Prints how many
inputs were tried and, of each failure, the shortest input; exits with 1 if there is any.
"""

import argparse
import contextlib
import importlib.util
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

TARGETS = ("rows", "parser", "yaml", "endpoint")
FAST = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    verbosity=Verbosity.quiet,
)


class Found:
    """What went wrong: of each kind the shortest input and the error."""

    def __init__(self) -> None:
        self.tried = 0
        self.failures: dict[str, tuple[str, BaseException]] = {}

    def watched(self, check: Callable[[Any], None]) -> Callable[[Any], None]:
        """The check, whose failures are kept, so that the search goes on."""

        def try_one(said: Any) -> None:
            self.tried += 1
            try:
                check(said)
            except Exception as error:
                shortest, _ = self.failures.get(_place(error), (None, None))
                if shortest is None or len(repr(said)) < len(shortest):
                    self.failures[_place(error)] = repr(said), error

        return try_one

    def report(self) -> int:
        print(f"{self.tried} inputs, {len(self.failures)} kinds of failure")
        for place, (said, error) in self.failures.items():
            print(f"\n{place}\n  input: {said[:2000]}\n  error: {str(error)[:2000]}")
        return int(bool(self.failures))


def _place(error: BaseException) -> str:
    """The error's type, and where in our code, or else anywhere, it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}grm_jax{os.sep}" in frame.filename] or frames
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--target", choices=TARGETS, required=True)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    guided = importlib.util.find_spec("atheris") is not None
    if guided:
        import atheris  # pyright: ignore[reportMissingImports]

        with atheris.instrument_imports(include=["grm_jax"]):
            from tests.faults.fuzz_targets import target
    else:
        from tests.faults.fuzz_targets import target
    inputs, check = target(chosen.target)
    found = Found()
    end = time.monotonic() + chosen.seconds
    print(f"{chosen.target}: {'guided by coverage' if guided else 'at random'}", flush=True)
    if guided:
        return _guided(inputs, found.watched(check), found, end, chosen.seed)
    numbers = random.Random(chosen.seed)
    while time.monotonic() < end:
        run = settings(FAST, max_examples=20)(given(inputs)(found.watched(check)))
        seed(numbers.randrange(2**32))(run)()
    return found.report()


def _guided(inputs: Any, check: Any, found: Found, end: float, number: int) -> int:
    import atheris  # pyright: ignore[reportMissingImports]

    one = FAST(given(inputs)(check)).hypothesis.fuzz_one_input

    def until_the_end(choices: bytes) -> None:
        if time.monotonic() > end:
            sys.stdout.flush()
            status = found.report()
            sys.stdout.flush()
            os._exit(status)  # atheris has no way to stop
        with contextlib.suppress(Exception):
            one(choices)

    with tempfile.TemporaryDirectory() as corpus:
        for i in range(20):  # an empty input is none that hypothesis can use
            Path(corpus, str(i)).write_bytes(random.Random(i).randbytes(400))
        atheris.Setup(["fuzz", f"-seed={number + 1}", "-max_len=8192", corpus], until_the_end)
        atheris.Fuzz()
    return found.report()


if __name__ == "__main__":
    sys.exit(main())
