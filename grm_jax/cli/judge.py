"""`grm judge`: bundled examples for the eye, or the rows of a file, one JSON line each."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from importlib import resources
from itertools import islice

from rich.console import Console
from tqdm import tqdm

from grm_jax.cli.show import Showcase
from grm_jax.cli.verdict_file import VerdictFile
from grm_jax.data.sources import Source, load_examples
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Verdict
from grm_jax.judging.made_from import JUDGES, made_from
from grm_jax.outputs import Made, claimed_file
from grm_jax.paths import expanded
from grm_jax.processes import from_first, is_first, say
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import MeshConfig

# Options that may differ when a file is continued: they change what is done, or how fast, and a
# log-probability by a rounding at most.
FREE = ("output", "limit", "mesh", "rows")


@dataclass(frozen=True)
class JudgeCommand:
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
        model: "tiny" (bundled), a folder in Hugging Face's layout, or a hub id.
        tokenizer: Take the tokenizer from this folder or hub id, not from the model's.
        templates: A folder of prompt templates that replace the built-in ones of the same name.
        k: Samples per row; their scores are summed.
        meta_rm: A model that rates the samples, of which then only the better ones are summed:
            "tiny-meta" (bundled), a folder, or a hub id.
        k_meta: How many samples that are; by default half of k.
        strategy: How tokens are drawn.
        seed: The same seed gives the same verdicts, whatever else is in the file.
        max_new_tokens: Room for one critique; by default what the model folder says.
        rows: Samples decoded at once: more is faster, until memory ends.
        dtype: What activations are computed in, float32 or bfloat16; by default float32 on a CPU
            and elsewhere what the weights are stored in.
        mesh: Spread over several devices: how many along data, fsdp and tensor. In a job of several
            processes the rows go over all its devices by default.
    """

    input: str | None = None
    output: str | None = None
    split: str | None = None
    limit: int | None = None
    model: str = "tiny"
    tokenizer: str | None = None
    templates: str | None = None
    k: int = 8
    meta_rm: str | None = None
    k_meta: int | None = None
    strategy: Strategy = field(default_factory=lambda: Strategy(temperature=0.5))
    seed: int = 0
    max_new_tokens: int | None = None
    rows: int = 64
    dtype: str | None = None
    mesh: MeshConfig | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; a verdict needs at least one sample.")
        if self.k_meta is not None and (self.meta_rm is None or not 1 <= self.k_meta <= self.k):
            raise ValueError(
                f"k_meta is {self.k_meta} of {self.k} samples: give 1 to k, and a --meta-rm that "
                "chooses them."
            )
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
            return 0 if _drive(command, source, show) else 1
    settings = asdict(command)
    made = Made("grm judge", settings, FREE, from_first(lambda: made_from(settings, JUDGES)))
    with claimed_file(command.output, made, apart=[where]) as path:
        # Once more: the output may be in a folder that is read.
        source = load_examples(where, split=command.split)
        say(source.mapping)
        folder = expanded(where)
        with VerdictFile(path, folder if folder.is_dir() else None) as file:
            if file.found:
                say(f"{path} is there (rows: {file.found}): those that have not changed stay.")
            _drive(command, source, file)
            say(file.summary())
            return 0 if file.verdicts else 1


def _drive(command: JudgeCommand, source: Source, sink: Showcase | VerdictFile) -> int:
    """Streams rows through the judge into the sink; holds only the rows that are under way.

    Returns:
        How many verdicts there were.
    """
    judge = Judge.load(
        command.model,
        tokenizer=command.tokenizer,
        templates=command.templates,
        dtype=command.dtype,
        mesh=command.mesh,
        strategy=command.strategy,
        seed=command.seed,
        max_new_tokens=command.max_new_tokens,
        rows=command.rows,
        meta_rm=command.meta_rm,
        k_meta=command.k_meta,
    )
    verdicts = 0
    terminal = sys.stderr.isatty()
    with tqdm(
        unit="row",
        disable=True if not is_first() else None if sink.is_for_people else False,
        leave=False,
        mininterval=0.2 if terminal else 10,
        file=sys.stderr,
    ) as bar:
        rows = sink.left(islice(source, command.limit))
        for result in judge.judge_all(rows, command.k):
            sink.write(result)
            bar.update()
            verdicts += isinstance(result, Verdict)
        sink.finish(limited=command.limit is not None)
    return verdicts
