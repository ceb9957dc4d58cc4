"""Sampled judgments on disk: one JSON line per Example, with every judgment and its text.

The form in which stages hand trajectories on: rejective fine-tuning, the meta RM and evaluation
read what any judge has written, our own or another.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.text.messages import Example

_OPTIONAL = ("label", "scores", "reference", "principles", "strength")


class SampleSource(Protocol):
    """Whatever writes judgments: `Judge`, `EndpointJudge`, `SavedSamples`.

    `on_devices`: it computes on the devices of the job, so that all its processes must ask for the
    same; otherwise the first asks alone.
    """

    on_devices: bool

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """k judgments for each Example, in the order in which Examples are finished."""
        ...


def to_json(sampled: Sampled) -> dict[str, Any]:
    """A JSON-ready dict of an Example and its judgments."""
    example = sampled.example
    optional = {name: getattr(example, name) for name in _OPTIONAL}
    return {
        "id": example.id,
        "digest": sampled.digest,
        "prompt": [dataclasses.asdict(turn) for turn in example.prompt],
        "responses": list(example.responses),
        **{name: value for name, value in optional.items() if value is not None},
        **({"meta": dict(example.meta)} if example.meta else {}),
        **({"engine": dict(sampled.engine)} if sampled.engine else {}),
        "judgments": [judgment.to_json() for judgment in sampled.judgments],
    }


def from_json(row: dict[str, Any]) -> Sampled:
    """The inverse of `to_json`.

    Raises:
        ValueError: the row lacks a part, or holds one that cannot be read.
    """
    digest = row.get("digest")
    try:
        judgments = tuple(
            Judgment(
                **{
                    **judgment,
                    "order": tuple(judgment["order"]),
                    "scores": judgment["scores"] and tuple(judgment["scores"]),
                    # JSON has no nan, which is what an endpoint's judgments have.
                    "logprob": math.nan if judgment["logprob"] is None else judgment["logprob"],
                    "criteria": criteria_from_json(judgment.get("criteria")),
                }
            )
            for judgment in row["judgments"]
        )
        optional: dict[str, Any] = {name: row.get(name) for name in (*_OPTIONAL, "meta")}
        return Sampled(
            Example(row["prompt"], row["responses"], row["id"], **optional),
            judgments,
            digest,
            row.get("engine"),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"this is no line of sampled judgments ({error!r}): they are written by "
            "`grm train rft` and `grm eval`, one Example with its judgments a line."
        ) from None


def criteria_from_json(
    criteria: Mapping[str, Sequence[float]] | None,
) -> dict[str, tuple[float, ...]] | None:
    """Scores by criterion, as a judgment has them."""
    if criteria is None:
        return None
    return {name: tuple(scores) for name, scores in criteria.items()}


def read_samples(path: Path) -> Iterator[Sampled | Refusal]:
    """Every line of a finished file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is none, by its number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of sampled judgments at {path}.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                if "error" in row:
                    known = row.get("row")
                    if known and "digest" in row:
                        known = {**known, "digest": row["digest"]}
                    yield Refusal(row["id"], row["error"], row.get("passing", False), known)
                else:
                    yield from_json(row)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None


class SavedSamples:
    """A file of judgments instead of a judge.

    Raises:
        FileNotFoundError, ValueError: as `read_samples`.
    """

    on_devices = False

    def __init__(self, path: Path):
        self.path = path
        rows = [row for row in read_samples(path) if isinstance(row, Sampled)]
        self._judgments = {row.digest: (row.judgments, row.engine) for row in rows}
        self._ids = {row.example.id for row in rows}

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """The first k judgments that the file has for each Example, looked up by what is judged."""
        for example in examples:
            judgments, engine = self._judgments.get(example.digest, ((), None))
            if not judgments and example.id in self._ids:
                yield Refusal(example.id, f"{self.path} judges something else under this id.")
            elif len(judgments) < k:
                yield Refusal(example.id, f"{self.path} has {len(judgments)} of its {k} judgments.")
            else:
                yield Sampled(example, judgments[:k], engine=engine)
