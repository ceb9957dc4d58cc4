"""Rows asked in turn, round after round: what is compared is what one machine did in one minute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Answer, Worker, WorkerError

Runs = dict[str, list[Answer]]
Say = Callable[[str], None]


class Disagreement(ValueError):
    """Two rows do not compute the same, so that their times mean nothing."""


def check_logits(logits: Mapping[str, Sequence[float]], base: str, tolerance: float) -> dict:
    """The largest difference of each row's logits from the base's, where both have their largest at
    0, so that log-probabilities do as well.

    Raises:
        Disagreement: one that is more than the tolerance.
    """

    def centred(name: str) -> np.ndarray:
        values = np.asarray(logits[name])
        return values - values.max()

    far = {name: float(abs(centred(name) - centred(base)).max()) for name in logits}
    for name, difference in far.items():
        if not difference <= tolerance:  # NaN too
            raise Disagreement(
                f"the logits of {name} differ from those of {base} by {difference:.2g}, and "
                f"{tolerance:.2g} is allowed: they are not of the same model."
            )
    return far


def check_losses(runs: Runs, base: str, tolerance: float) -> dict[str, dict[str, float]]:
    """Loss and gradient norm of each row's first update, which must be those of the base's.

    Raises:
        Disagreement: one that differs by more than the tolerance, relatively.
    """
    first = {
        name: {key: answers[0][key] for key in ("loss", "norm")} for name, answers in runs.items()
    }
    for name, values in first.items():
        for key, value in values.items():
            wanted = first[base][key]
            if not abs(value - wanted) <= tolerance * max(abs(wanted), 1e-3):
                raise Disagreement(f"the {key} of {name} is {value:.6g}, of {base} {wanted:.6g}.")
    return first


def in_turn(
    rows: Mapping[str, tuple[Worker, str]], rounds: int, say: Say, operation: str, **asked: Any
) -> Runs:
    """Asks every row once for its compiler, and then in turn. A row that fails is left out, and
    said."""
    runs: Runs = {}
    live = dict(rows)
    for turn in range(rounds + 1):
        for name, (worker, way) in list(live.items()):
            given = {**asked, "seed": turn} if operation == "sample" else asked
            try:
                answer = worker.ask(operation, way=way, **given)
            except WorkerError as error:
                say(f"{name}: {error}")
                del live[name]
                runs.pop(name, None)
                continue
            answer["load"] = os.getloadavg()[0]
            runs.setdefault(name, []).append(answer)
            say(f"  {turn or 'first'}: {name} {answer['seconds']:.2f} s")
    return runs


def apart(
    names: Iterable[str],
    start: Callable[[str], tuple[Worker, str]],
    rounds: int,
    say: Say,
    operation: str,
    **asked: Any,
) -> Runs:
    """As `in_turn`, where memory has room for one worker alone: each does all its rounds, then the
    next, and all of it again in the opposite order, so that a slower hour tells."""
    runs: Runs = {}
    forth = list(names)
    for pass_ in (forth, forth[::-1]):
        for name in pass_:
            worker, way = start(name)
            try:
                done = in_turn({name: (worker, way)}, rounds, say, operation, **asked)
            finally:
                worker.close()
            # Of the second time the first call is one more for the compiler.
            runs.setdefault(name, []).extend(done.get(name, [])[bool(runs.get(name)) :])
    return {name: answers for name, answers in runs.items() if answers}


def summarize(runs: Runs, base: str, tokens: int) -> dict[str, dict[str, Any]]:
    """Of each row the times, and their ratio to the base's in the same round: median and range.
    The first answer of each row is for its compiler.

    Raises:
        Disagreement: the base has no times.
    """
    if base not in runs:
        raise Disagreement(f"{base} failed, and there is nothing to compare with.")
    timed = {name: [a["seconds"] for a in answers[1:]] for name, answers in runs.items()}
    summary = {}
    for name, seconds in timed.items():
        ratios = [mine / its for mine, its in zip(seconds, timed[base], strict=False)]
        summary[name] = {
            "seconds": median(seconds),
            "all_seconds": seconds,
            "tokens_per_second": tokens / median(seconds),
            "ratio": median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "first_seconds": runs[name][0]["seconds"],
            "cpu_seconds": median(a["cpu_seconds"] for a in runs[name][1:]),
            "peak_bytes": runs[name][-1]["peak_bytes"],
            "load": max(a["load"] for a in runs[name]),
        }
    return summary
