"""`grm judge`: shows bundled examples, or writes a JSON line for each row of a file."""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources
from itertools import islice

from rich.console import Console

from grm_jax.cli.commands import JudgeCommand
from grm_jax.cli.judge_options import CommandJudge, asks_about_one
from grm_jax.cli.show import Showcase
from grm_jax.cli.verdict_file import VerdictFile
from grm_jax.data.sources import Source, load_examples
from grm_jax.judging.judge import Judge
from grm_jax.judging.judgment import Verdict
from grm_jax.judging.made_from import JUDGES, made_from
from grm_jax.judging.principles import WithPrinciples
from grm_jax.judging.voting import conclude
from grm_jax.outputs import Made, claimed_file
from grm_jax.paths import expanded
from grm_jax.places import at_hand
from grm_jax.processes import from_first, is_first, say
from grm_jax.progress import progress
from grm_jax.sharding import make_mesh

# Options that may differ when a file is continued. The last two change log-probabilities by
# rounding, and so, very seldom, a token; each verdict says the size of its engine.
FREE = ("output", "limit", "mesh", "slots")


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
        # Again: the output may lie in the folder that is read.
        source = load_examples(where, split=command.split)
        say(source.mapping)
        folder = expanded(where)
        is_folder = at_hand(where).expanduser().is_dir()
        with VerdictFile(path, folder if is_folder else None) as file:
            if file.done:
                say(f"{path} has {file.done} rows already: those that have not changed stay.")
            _drive(command, source, file)
            say(file.summary())
            if command.adaptive:
                say(file.saved(command.k, command.adaptive))
            return 0 if from_first(lambda: file.verdicts) else 1


def _drive(command: JudgeCommand, examples: Source, sink: Showcase | VerdictFile) -> int:
    """Streams rows through the judge into the sink; holds only rows in flight.

    Returns:
        How many verdicts there were; 0 in other processes if only the first one asks the judge.
    """
    if command.mesh is not None:
        make_mesh(command.mesh)  # a mesh that does not fit is an error even where it is not used
    loading = {"tokenizer": command.tokenizer, "dtype": command.dtype}
    judge = CommandJudge(command, pairs=command.shown == "pair", **loading)
    source = judge.source
    verdicts = 0
    with progress("judged", "row", _total(command, examples), shown=is_first()) as advance:
        sink.on_row = advance
        rows = sink.left(islice(examples, command.limit))
        asking = is_first() or source.on_devices
        if not command.adaptive:
            drawn = source.sample_all(rows if asking else (), judge.k)
        elif isinstance(source, WithPrinciples | Judge) and not asks_about_one(judge.judge):
            drawn = source.sample_all(rows, judge.k, adaptive=command.adaptive)
        else:
            raise ValueError(
                "adaptive voting is for judges that write, several samples per row, and are shown "
                "all responses at once."
            )
        for sampled in drawn:
            verdict = conclude(
                sampled,
                seed=command.seed,
                k_meta=command.k_meta,
                guided=command.meta_rm is not None,
            )
            sink.write(verdict)
            verdicts += isinstance(verdict, Verdict)
        sink.finish(limited=command.limit is not None)
    if judge.given is not None:
        say(judge.given.usage.summary())
    return verdicts


def _total(command: JudgeCommand, examples: Source) -> int | None:
    """How many rows there are to judge; None if only reading them would tell."""
    count = examples.count() if is_first() else None
    return count if count is None or command.limit is None else min(count, command.limit)
