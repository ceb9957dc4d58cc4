"""Sampling to a file: every judgment of every item, killed and continued as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.result_file import Line, ResultFile
from grm_jax.judging.samples import SampleSource, from_json, read_samples, to_json
from grm_jax.processes import is_first, say, several
from grm_jax.progress import progress
from grm_jax.text.messages import Example


def collect(
    source: SampleSource, examples: Sequence[Example], k: int, path: Path, *, name: str
) -> list[Sampled]:
    """k judgments for each Example, from the file where they are there, else sampled.

    As `write_samples`; what cannot be judged is left out, and a message says how many that is.
    """
    write_samples(source, examples, k, path, name=name, total=len(examples))
    results = list(read_samples(path))
    refusals = [row for row in results if isinstance(row, Refusal)]
    if refusals:
        say(
            f"{name}: {len(refusals)} of {len(results)} items have no judgments and are left out; "
            f"the first, {refusals[0].id}: {refusals[0].error}"
        )
    return [row for row in results if isinstance(row, Sampled)]


def refused(refusal: Refusal, example: Example) -> Line:
    """The line of an Example that was refused."""
    return {**refusal.to_json(), "id": example.id, "digest": example.digest}


@dataclass(frozen=True)
class SampleLines:
    """The `Form` of a file of samples.

    Attributes:
        k: judgments of each Example; a line with another number of them is none.
        form: the line of what was sampled.
        refused: the line of an Example that was refused.
    """

    k: int
    form: Callable[[Sampled], Line] = to_json
    refused: Callable[[Refusal, Example], Line] = refused

    def fresh(self, result: Any, row: Example) -> Line:
        if isinstance(result, Refusal):
            return self.refused(result, row)
        return self.form(Sampled(row, result.judgments, engine=result.engine))

    def again(self, line: Line, row: Example) -> Line:
        """What is known of the row as it is now, and what was sampled then."""
        if "judgments" in line:
            sampled = Sampled(row, (), engine=line.get("engine"))
            return {**self.form(sampled), "judgments": line["judgments"]}
        return self.refused(Refusal(row.id, line["error"]), row)

    def bad(self, row: Refusal) -> Line:
        return row.to_json()

    def digest(self, line: Line) -> str | None:
        if "error" in line:
            return line["digest"]
        # Earlier versions did not write it down, but what it is made from.
        digest = line["digest"] if "digest" in line else from_json(line).digest
        # Earlier versions wrote k judgments of a row that had no answer.
        had_none = all(judgment["reason"] == "refused" for judgment in line["judgments"])
        return digest if len(line["judgments"]) == self.k and not had_none else None


def write_samples(
    source: SampleSource,
    examples: Iterable[Example | Refusal],
    k: int,
    path: Path,
    *,
    name: str,
    total: int | None = None,
    lines: SampleLines | None = None,
) -> None:
    """A file with k judgments of each Example, a line each, in the order of the Examples.

    Lines are appended to `path`.part as Examples are finished; when all are there, the file gets
    its name, so that its bytes do not depend on when a run was killed. A file that is there is
    checked row by row: only what was not judged as it is now is sampled, see `ResultFile`, and
    judgments of rows that are gone are kept in `path`.old. What cannot be judged, or came as a
    Refusal, has a line with its reason. In a job of several processes all must call; the first
    writes, and the others may read when this returns.

    Args:
        name, total: of the progress that is shown: what is judged, and how many.
        lines: another form of them.
    """
    part, old = (path.with_name(path.name + end) for end in (".part", ".old"))
    with (
        progress(name, "item", total, shown=is_first()) as advance,
        ResultFile(
            path,
            lines or SampleLines(k),
            part=part,
            others=(path, old),
            on_line=lambda line: advance(1),
        ) as file,
    ):
        left = file.left(examples)
        for result in source.sample_all(left if is_first() or source.on_devices else (), k):
            file.write(result)
        file.finish(aside=old)


class Rated:
    """A source whose judgments come with the scores of a meta RM.

    Raises:
        ValueError: a job of several processes, in which only one would ask the source.
    """

    on_devices = True

    def __init__(self, source: SampleSource, meta_rm: MetaRM):
        if several() and not source.on_devices:
            raise ValueError(
                "judgments from a file or an endpoint are rated by one process: start one."
            )
        self._source, self._meta_rm = source, meta_rm

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """The source's judgments, rated."""
        return self._meta_rm.rate_all(self._source.sample_all(examples, k))
