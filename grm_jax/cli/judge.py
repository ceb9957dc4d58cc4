"""`grm judge`: bundled examples for the eye, or the rows of a file, one JSON line each."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import islice
from typing import Literal

from rich.console import Console
from tqdm import tqdm

from grm_jax.cli.judge_options import CommandJudge, JudgeOptions, check_pairs
from grm_jax.cli.show import Showcase
from grm_jax.cli.verdict_file import VerdictFile
from grm_jax.data.sources import Source, load_examples
from grm_jax.judging.judgment import Verdict, check_samples
from grm_jax.judging.made_from import JUDGES, made_from
from grm_jax.judging.voting import conclude
from grm_jax.outputs import Made, claimed_file
from grm_jax.paths import expanded
from grm_jax.processes import from_first, is_first, say
from grm_jax.sharding import make_mesh

# Options that may differ when a file is continued: they change what is done, or how fast, and a
# log-probability by a rounding at most.
FREE = ("output", "limit", "mesh", "rows")


@dataclass(frozen=True)
class JudgeCommand(JudgeOptions):
    """Judge responses: principles, a critique and a score for each, summed over k samples.

    With no options it judges a few bundled questions with the bundled model and shows them.
    With --input and --output it writes one JSON line per row as it is done, with a verdict or an
    "error", and at the end puts them in the order of the rows. The same command again does only
    what is missing: rows that are new, or have changed.

    Args:
        input: A file of rows (JSONL, JSON, CSV, TSV or Parquet, also as .gz or .zst), a folder of
            them, a hub data set, or "-" for standard input; rows such
            as {"prompt", "responses"} or {"prompt", "chosen", "rejected"}.
        output: The JSONL file for the verdicts; without it they are shown on the terminal.
        split: Which split of a folder or a hub data set to read.
        limit: Read only the first so many rows.
        shown: "list" shows the judge all responses at once, "pair" two at a time.
        tokenizer: Take the tokenizer from this folder or hub id, not from the model's.
        dtype: What activations are computed in, float32 or bfloat16; by default float32 on a CPU
            and elsewhere what the weights are stored in.
    """

    input: str | None = None
    output: str | None = None
    split: str | None = None
    limit: int | None = None
    shown: Literal["list", "pair"] = "list"
    tokenizer: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_samples(self.k)
        super().__post_init__()
        if self.shown == "pair":
            check_pairs(self, "--shown")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least one row, or leave it out.")
        if self.output is not None and self.input is None:
            raise ValueError("there is an --output but no --input: name the rows to judge.")


def run(command: JudgeCommand) -> int:
    """Judges; 0 if any row got a verdict, else 1."""
    where = command.input or str(resources.files("grm_jax") / "assets" / "examples.jsonl")
    source = load_examples(where, split=command.split)
    if command.output is None:
        with Showcase(Console(quiet=not is_first())) as show:
            verdicts = _drive(command, source, show)
            return 0 if from_first(lambda: verdicts) else 1
    settings = asdict(command)
    made = Made("grm judge", settings, FREE, from_first(lambda: made_from(settings, JUDGES)))
    with claimed_file(command.output, made, apart=[where]) as path:
        # Once more: the output may be in a folder that is read.
        source = load_examples(where, split=command.split)
        say(source.mapping)
        folder = expanded(where)
        with VerdictFile(path, folder if folder.is_dir() else None) as file:
            if file.done:
                say(f"{path} is there (rows: {file.done}): those that have not changed stay.")
            _drive(command, source, file)
            say(file.summary())
            return 0 if from_first(lambda: file.verdicts) else 1


def _drive(command: JudgeCommand, examples: Source, sink: Showcase | VerdictFile) -> int:
    """Streams rows through the judge into the sink; holds only the rows that are under way.

    Returns:
        How many verdicts there were; in other processes none, of a judge that the first asks alone.
    """
    if command.mesh is not None:
        make_mesh(command.mesh)  # one that does not fit is an error, even where it is not used
    loading = {"tokenizer": command.tokenizer, "dtype": command.dtype}
    judge = CommandJudge(command, pairs=command.shown == "pair", **loading)
    source = judge.source
    verdicts = 0
    terminal = sys.stderr.isatty()
    with tqdm(
        unit="row",
        disable=True if not is_first() else None if sink.is_for_people else False,
        leave=False,
        mininterval=0.2 if terminal else 10,
        file=sys.stderr,
    ) as bar:
        rows = sink.left(islice(examples, command.limit))
        asking = is_first() or source.on_devices
        for sampled in source.sample_all(rows if asking else (), judge.k):
            verdict = conclude(
                sampled,
                seed=command.seed,
                k_meta=command.k_meta,
                guided=command.meta_rm is not None,
            )
            sink.write(verdict)
            bar.update()
            verdicts += isinstance(verdict, Verdict)
        sink.finish(limited=command.limit is not None)
    return verdicts
