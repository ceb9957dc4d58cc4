"""Judging a benchmark: k judgments of each row in a file, resumable, in constant memory."""

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
    """Writes k judgments of each row to `folder`/`name`.jsonl with `write_samples`: a killed run
    can be started again, and in a finished file only rows that have changed are judged anew.

    An Example that the judge refuses becomes a Refusal that names the row (`Refusal.row`): it has
    no answer, which is neither wrong nor a tie. An Example that the official script leaves out is a
    Refusal too, and is not judged; so is a row that is not an Example, named by its line. The texts
    and critiques of a secret benchmark are left out.

    Args:
        data: where the rows are; by default the benchmark's official source.
        limit: the most rows to judge, spread evenly over the subsets and within them.
        scalar: the judge is a scalar model, for which some benchmarks have a rule of their own.

    Returns:
        The file.

    Raises:
        ValueError, FileNotFoundError: as `Benchmark.read`; a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give at least one row, or leave it out.")
    path = folder / f"{name}.jsonl"
    # Nobody knows how many rows another file has before they are read.
    rows, total = benchmark.read(data), None if data else sum(benchmark.full.values()) or None
    if limit is not None:  # shares depend on the number of rows in each subset
        examples = (row for row in benchmark.read(data) if isinstance(row, Example))
        counts = Counter(map(benchmark.subset, examples))
        rows, total = _spread(benchmark, rows, counts, limit), min(limit, counts.total())
    write_samples(
        source,
        (_item(benchmark, row, scalar) for row in rows),
        k,
        path,
        name=f"{benchmark.title}, {name}",
        total=total,
        lines=_lines(k, benchmark),
    )
    return path


def _lines(k: int, benchmark: Benchmark) -> SampleLines:
    """The results, with refused rows named and secret texts left out."""

    def form(sampled: Sampled) -> Line:
        return to_json(_withheld(sampled) if benchmark.secret else sampled)

    def without(refusal: Refusal, example: Example) -> Line:
        # An error may quote the row.
        error = WITHHELD if benchmark.secret else refusal.error
        known = _known(benchmark, example)
        return refused(replace(refusal, error=error, row=known), example)

    return SampleLines(k, form, without)


def shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Rows to take from each subset: `limit` in all, as evenly as their sizes allow."""
    if limit >= sum(counts.values()):
        return dict(counts)
    taken = dict.fromkeys(counts, 0)
    left = limit
    while left:
        # The remainder goes to subsets that have more rows, the first ones first.
        for subset in [name for name in counts if taken[name] < counts[name]][:left]:
            taken[subset] += 1
            left -= 1
    return taken


def _spread(
    benchmark: Benchmark, rows: Iterable[Example | BadRow], counts: Mapping[str, int], limit: int
) -> Iterator[Example | BadRow]:
    """A share of each subset, spread evenly over its rows, in order; and all BadRows."""
    wanted, seen = shares(counts, limit), Counter[str]()
    for row in rows:
        if isinstance(row, Example):
            subset = benchmark.subset(row)
            index, count, share = seen[subset], counts[subset], wanted[subset]
            seen[subset] += 1
            if (index + 1) * share // count == index * share // count:
                continue
        yield row


def _item(benchmark: Benchmark, row: Example | BadRow, scalar: bool) -> Example | Refusal:
    """The Example to judge, or the reason why there is none."""
    if isinstance(row, BadRow):
        where = f"{Path(row.path).name}:{row.line}"
        # The reason may quote the row.
        return Refusal(row.id or where, where if benchmark.secret else str(row))
    why = benchmark.leaves_out(row, scalar)
    if not why:
        return row
    return Refusal(
        row.id, why, row=_known(benchmark, row) | {"digest": row.digest, "left_out": True}
    )


class Greedy:
    """A greedy judge: the likeliest tokens, whatever its own strategy."""

    on_devices = True

    def __init__(self, judge: Judge):
        self._judge = judge

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """As `Judge.sample_all`."""
        return self._judge.sample_all(examples, k, Strategy(temperature=0.0))


def _known(benchmark: Benchmark, example: Example) -> dict[str, Any]:
    """What a report needs to know about a row without judgments."""
    return {
        "subset": benchmark.subset(example),
        "unit": benchmark.unit(example),
        "label": example.label,
    }


def _withheld(sampled: Sampled) -> Sampled:
    """The result without any text of the row or of its critiques."""
    example = sampled.example
    kept = {name: example.meta[name] for name in ("subset", "unit") if name in example.meta}
    silent = Example(WITHHELD, [WITHHELD] * example.n, example.id, label=example.label, meta=kept)
    judgments = (replace(j, principles="", critique="", text="") for j in sampled.judgments)
    return Sampled(silent, tuple(judgments), sampled.digest, sampled.engine)
