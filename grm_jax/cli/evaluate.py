"""`grm eval`: a judge on a benchmark, by the benchmark's own rules, with intervals and a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from grm_jax.cli.commands import EvalCommand
from grm_jax.cli.judge_options import CommandJudge
from grm_jax.cli.show_report import show_paper, show_report
from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks import PAPER, find, rows
from grm_jax.evals.eval_page import write_page
from grm_jax.evals.leaderboard import SUBMISSIONS, write_submission
from grm_jax.evals.report import write_report
from grm_jax.evals.run import Greedy, judge_benchmark
from grm_jax.evals.scoring import Unanswered
from grm_jax.judging.endpoint import EndpointJudge
from grm_jax.judging.judge import Judge
from grm_jax.judging.made_from import JUDGES, made_from
from grm_jax.judging.samples import SampleSource
from grm_jax.outputs import Made, check_file, claimed_folder, json_with, write_whole
from grm_jax.paths import expanded
from grm_jax.places import is_address
from grm_jax.processes import from_first, is_first, say

ALL = "paper"
# The options that decide the result, in a report's order. The others may differ when an evaluation
# is continued.
DECIDE = (
    *("benchmark", "data", "limit", "model", "weights", "judge_kind", "samples", "endpoint"),
    *(
        "templates",
        "chat",
        "reference",
        "principles",
        "input",
        "k",
        "meta_rm",
        "k_meta",
        "strategy",
        "max_new_tokens",
        "seed",
    ),
)


def folder_of(command: EvalCommand) -> Path | str:
    """Where everything is written: a folder, or an address."""
    if command.output is not None:
        return command.output if is_address(command.output) else expanded(command.output)
    judge = command.endpoint.model if command.endpoint else command.samples or command.model
    return Path("runs") / "eval" / f"{command.benchmark}-{judge.strip('/').replace('/', '_')}"


def greedy(command: EvalCommand, judge: CommandJudge) -> SampleSource | None:
    """The judge at temperature 0, if it is a model of ours that samples."""
    if not isinstance(judge.judge, Judge) or command.strategy.temperature == 0:
        return None
    return judge.shown(Greedy(judge.judge))


def run(command: EvalCommand) -> int:
    """Judges, scores and writes; 0 if there is a report and no more rows than allowed lack an
    answer."""
    try:
        return _run(command)
    except Unanswered as error:
        print(f"grm eval: {error}", file=sys.stderr)
        return 1


def _run(command: EvalCommand) -> int:
    judge = CommandJudge(command, pairs=command.input == "pair")
    if command.benchmark == ALL:
        return _paper(command, judge)
    own = command.benchmark == "world" and command.data is not None
    benchmark = rows(str(command.data)) if own else find(command.benchmark)
    if own:
        command = replace(command, benchmark=benchmark.name, output=str(folder_of(command)))
    report = evaluate(command, benchmark, judge)
    return int(report is not None and lacks(report, command.unanswered))


def evaluate(
    command: EvalCommand, benchmark: Benchmark, judge: CommandJudge
) -> dict[str, Any] | None:
    """Judges what is missing in the command's folder, and writes and shows the report; returns it
    in the first process.

    Raises:
        ValueError, FileNotFoundError: what is missing or does not fit, such as a folder of
            another evaluation.
        Unanswered: not one row has an answer.
    """
    made = _made(command)
    with claimed_folder(folder_of(command), made, mark="settings.yaml") as folder:
        return _evaluate(command, benchmark, judge, folder, made.settings)


def _evaluate(
    command: EvalCommand,
    benchmark: Benchmark,
    judge: CommandJudge,
    folder: Path,
    settings: Mapping[str, Any],
) -> dict[str, Any] | None:
    """As `evaluate`, in a folder that is claimed."""
    scalar = judge.kind.head == "scalar"
    where: dict[str, Any] = {"data": command.data, "limit": command.limit, "scalar": scalar}
    judge_benchmark(benchmark, judge.source, judge.k, folder, **where)
    if (without_chance := greedy(command, judge)) is not None:
        judge_benchmark(benchmark, without_chance, 1, folder, name="greedy", **where)
    if not is_first():
        return None
    if judge.given is not None:
        say(judge.given.usage.summary())
    asked = judge.judge
    report = write_report(
        benchmark,
        folder,
        settings=settings,
        k_meta=command.k_meta,
        scalar=scalar,
        usage=asdict(asked.usage) if isinstance(asked, EndpointJudge) else None,
    )
    # Its files have no place for the word "incomplete".
    if benchmark.name in SUBMISSIONS and not report["unanswered_rows"]:
        write_submission(benchmark, folder, report)
    page = write_page(folder)
    show_report(report)
    say(f"Open {page} in a browser; compare with another by `grm compare {folder} OTHER`.")
    return report


def lacks(report: Mapping[str, Any], share: float) -> bool:
    """Whether more than this share of the rows has no answer."""
    return max(part["unanswered_share"] for part in (report, report["greedy"] or report)) > share


def _paper(command: EvalCommand, judge: CommandJudge) -> int:
    """The four benchmarks of Overall, each in a folder of its own."""
    folder = folder_of(command)
    if isinstance(folder, str):
        raise ValueError(
            f"output is {folder}, an address: the four benchmarks together are written to a folder "
            "of this machine. Give one, or evaluate each by itself."
        )
    # Names what is missing before anything is judged; the last first, since it is not on the hub.
    for benchmark in reversed(PAPER):
        benchmark.read(command.data)
    paper = folder / "paper.json"
    check_file(paper, json_with("title", "rows", "partial"), "an Overall of grm eval")
    reports = {}
    for benchmark in PAPER:
        part = replace(command, benchmark=benchmark.name, output=str(folder / benchmark.name))
        reports[benchmark.headline] = evaluate(part, benchmark, judge)
    if is_first():
        overall = show_paper(reports)
        write_whole(paper, json.dumps(overall, indent=2) + "\n")
        return int(any(lacks(report, command.unanswered) for report in reports.values()))
    return 0


def _made(command: EvalCommand) -> Made:
    """Everything that decides the result except the rows, which are compared one by one."""
    options = asdict(command)
    settings = {name: options[name] for name in DECIDE}
    return Made("grm eval", settings, (), from_first(lambda: made_from(settings, JUDGES)))
