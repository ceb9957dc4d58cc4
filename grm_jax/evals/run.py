"""Judging a benchmark: k judgments of each of its rows in a file, resumable, flat in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmark import Benchmark
from grm_jax.judging.collect import SampleLines, refused, write_samples
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.result_file import Line
from grm_jax.judging.samples import SampleSource, to_json
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example

WITHHELD = "(withheld)"


def judge_benchmark(
    benchmark: Benchmark,
    source: SampleSource,
    k: int,
    folder: Path,
    *,
    data: str | None = None,
    limit: int | None = None,
    name: str = "samples",
    scalar: bool = False,
) -> Path:
    """k judgments of each row in `folder`/`name`.jsonl, as `write_samples` (so it can be killed and
    started again, and of a finished file only what has changed in the data is judged anew).

    An Example that the judge refuses is a Refusal that says which row it is (`Refusal.row`): it has
    no answer, which is neither wrong nor a tie. One that the official script leaves out is a
    Refusal too, and is not judged; and so is a row that is no Example, by its line. Of a secret
    benchmark, texts and critiques are left out.

    Args:
        data: where the rows are; by default the benchmark's official place.
        limit: how many rows to judge at most, spread evenly over the subsets and within them.
        scalar: the judge is a scalar model, for which some benchmarks have a rule of their own.

    Returns:
        The file.

    Raises:
        ValueError, FileNotFoundError: as `Benchmark.read`; a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give at least one row, or leave it out.")
    path = folder / f"{name}.jsonl"
    found, bad = _count(benchmark, benchmark.read(data))
    wanted = shares(found, limit)
    write_samples(
        source,
        _items(benchmark, data, found, wanted, scalar),
        k,
        path,
        name=f"{benchmark.title}, {name}",
        total=sum(wanted.values()) + bad,
        lines=_lines(k, benchmark),
    )
    return path


def _lines(k: int, benchmark: Benchmark) -> SampleLines:
    """Lines of which those of refused rows say which row it is, and that hold no secret."""

    def form(sampled: Sampled) -> Line:
        return to_json(_withheld(sampled) if benchmark.secret else sampled)

    def without(refusal: Refusal, example: Example) -> Line:
        # What a judge says of a row may quote it.
        error = WITHHELD if benchmark.secret else refusal.error
        known = _known(benchmark, example)
        return refused(replace(refusal, error=error, row=known), example)

    return SampleLines(k, form, without)


def shares(found: Mapping[str, int], limit: int | None) -> dict[str, int]:
    """How many rows to take of each subset: all, or `limit` so evenly as their sizes allow."""
    if limit is None or limit >= sum(found.values()):
        return dict(found)
    taken = dict.fromkeys(found, 0)
    left = limit
    while left:
        # Those that have more, the first ones first.
        for subset in [name for name in found if taken[name] < found[name]][:left]:
            taken[subset] += 1
            left -= 1
    return taken


def _count(benchmark: Benchmark, rows: Iterable[Example | BadRow]) -> tuple[Counter[str], int]:
    """How many Examples each subset has, in the order of their first ones, and how many BadRows."""
    found: Counter[str] = Counter()
    bad = 0
    for row in rows:
        if isinstance(row, BadRow):
            bad += 1
        else:
            found[benchmark.subset(row)] += 1
    return found, bad


def _items(
    benchmark: Benchmark,
    data: str | None,
    found: Mapping[str, int],
    wanted: Mapping[str, int],
    scalar: bool,
) -> Iterator[Example | Refusal]:
    """The wanted share of each subset, evenly spread over its rows, in the order of the rows."""
    seen: Counter[str] = Counter()
    for row in benchmark.read(data):
        if isinstance(row, BadRow):
            where = f"{Path(row.path).name}:{row.line}"
            # What is wrong with a row may be told by quoting it.
            yield Refusal(row.id or where, where if benchmark.secret else str(row))
            continue
        subset = benchmark.subset(row)
        place, count, share = seen[subset], found[subset], wanted[subset]
        seen[subset] += 1
        if (place + 1) * share // count > place * share // count:
            why = benchmark.leaves_out(row, scalar)
            known = _known(benchmark, row) | {"digest": row.digest, "left_out": True}
            yield Refusal(row.id, why, row=known) if why else row


class Greedy:
    """A judge without chance: its likeliest tokens, whatever its strategy is."""

    on_devices = True

    def __init__(self, judge: Judge):
        self._judge = judge

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """As `Judge.sample_all`."""
        return self._judge.sample_all(examples, k, Strategy(temperature=0.0))


def _known(benchmark: Benchmark, example: Example) -> dict[str, Any]:
    """What a report must know of a row that has no judgments."""
    return {
        "subset": benchmark.subset(example),
        "unit": str(example.meta.get("unit", example.id)),
        "label": example.label,
    }


def _withheld(sampled: Sampled) -> Sampled:
    """The same without a word of the row, or of what was said of it."""
    example = sampled.example
    kept = {name: example.meta[name] for name in ("subset", "unit") if name in example.meta}
    silent = Example(WITHHELD, [WITHHELD] * example.n, example.id, label=example.label, meta=kept)
    judgments = (replace(j, principles="", critique="", text="") for j in sampled.judgments)
    return Sampled(silent, tuple(judgments), sampled.digest)
