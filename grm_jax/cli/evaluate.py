"""`grm eval`: a judge on a benchmark, by its own rules, with intervals and a page to look at."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from grm_jax.cli.show_report import show_paper, show_report
from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks import PAPER, find, rows
from grm_jax.evals.eval_page import write_page
from grm_jax.evals.leaderboard import SUBMISSIONS, write_submission
from grm_jax.evals.report import write_report
from grm_jax.evals.run import Greedy, judge_benchmark
from grm_jax.evals.scoring import Unanswered
from grm_jax.judging.collect import Rated
from grm_jax.judging.endpoint import EndpointConfig, EndpointJudge
from grm_jax.judging.folder import Kind, folder_kind
from grm_jax.judging.judge import Judge
from grm_jax.judging.made_from import JUDGES, made_from
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.pairs import PairInput
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.outputs import Made, check_file, claimed_folder, json_with, write_whole
from grm_jax.paths import expanded
from grm_jax.processes import from_first, is_first, say
from grm_jax.sampling.strategy import Strategy
from grm_jax.sharding import MeshConfig

ALL = "paper"
# These give each row one reward, and those three count as scalar models.
CERTAIN, SCALAR = ("bt", "pair"), ("bt", "pair", "cloud")
# Options that may differ when an evaluation is continued.
FREE = {"output", "mesh", "rows", "unanswered"}


@dataclass(frozen=True)
class EvalCommand:
    """Measure a judge on a benchmark, by the benchmark's own rules.

    Prints its cells with 95 % intervals for Voting@1, 2, 4 .. k, for one greedy judgment of each
    row, and with a meta RM for MetaRM@k and the paired difference; writes report.json, rows.jsonl,
    samples.jsonl with every critique, and index.html. Stopped, the same command goes on.

    Args:
        benchmark: "world" (the bundled models' own), rewardbench, rewardbench-2, prior-sets,
            ppe-preference, ppe-correctness, ppe-best-of-k, rmb, realmistake, judgebench, rm-bench;
            or "paper" for the four of the paper's Overall, beside the paper's rows.
        data: Where its rows are, a hub id or a path; by default its official place. Without a
            --benchmark, any file of rows with responses and a label.
        output: The folder for all of that; by default runs/eval/BENCHMARK-MODEL.
        unanswered: Which share of the rows may have no answer (refused by a server, too long for
            the model); with more, the command ends with 1. None of them is in any number.
        limit: How many rows to judge, spread evenly over the subsets: a part of the benchmark.
        model: "tiny" (bundled), a folder in Hugging Face's layout, or a hub id.
        judge_kind: What the model is; by default what its grm.json says, else a pointwise GRM.
        samples: A file of judgments (another evaluation's samples.jsonl) in the place of a model.
        endpoint: An OpenAI-compatible server in the place of a model.
        templates: Prompt templates; by default the model's own.
        reference: Show the reference answer where a row has one.
        input: "list" shows all responses at once, "pair" two at a time.
        k: Samples per row.
        meta_rm: A model that rates samples, of which the better ones count: "tiny-meta", a folder,
            or a hub id.
        k_meta: How many samples of k those are; by default half.
        strategy: How tokens are drawn (the paper's temperature for k > 1 is 0.5).
        max_new_tokens: Room for one judgment; by default what the model folder says.
        seed: Seed of orders and tokens.
        rows: Samples decoded at once.
        mesh: Spread over several devices: how many along data, fsdp and tensor.
    """

    benchmark: str = "world"
    data: str | None = None
    output: str | None = None
    unanswered: float = 0.0
    limit: int | None = None
    model: str = "tiny"
    judge_kind: Kind | None = None
    samples: str | None = None
    endpoint: EndpointConfig | None = None
    templates: str | None = None
    reference: bool = False
    input: Literal["list", "pair"] = "list"
    k: int = 8
    meta_rm: str | None = None
    k_meta: int | None = None
    strategy: Strategy = field(default_factory=lambda: Strategy(temperature=0.5))
    max_new_tokens: int | None = None
    seed: int = 0
    rows: int = 64
    mesh: MeshConfig | None = None

    def __post_init__(self) -> None:
        if self.k < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"limit is {self.limit} and k is {self.k}; both must be at least 1.")
        if not 0 <= self.unanswered <= 1:
            raise ValueError(f"unanswered is {self.unanswered}; give a share of rows, 0 to 1.")
        if self.k_meta is not None and (self.meta_rm is None or not 1 <= self.k_meta <= self.k):
            raise ValueError(
                f"k_meta is {self.k_meta} of {self.k} samples: give 1 to k, and a --meta-rm that "
                "chooses them."
            )
        if self.input == "pair" and self.meta_rm is not None:
            raise ValueError(
                "a meta RM reads judgments of all responses: leave out --meta-rm or --input pair."
            )
        if self.samples is not None and self.endpoint is not None:
            raise ValueError("samples and endpoint are both given: judgments have one source.")


# Not methods of the command: the command line would take those for subcommands.
def kind_of(command: EvalCommand) -> Kind:
    """What judges."""
    if command.judge_kind is not None:
        return command.judge_kind
    return "grm" if command.samples or command.endpoint else folder_kind(command.model)


def folder_of(command: EvalCommand) -> Path:
    """Where everything is written."""
    if command.output is not None:
        return expanded(command.output)
    judge = command.endpoint.model if command.endpoint else command.samples or command.model
    return Path("runs") / "eval" / f"{command.benchmark}-{judge.strip('/').replace('/', '_')}"


class Judges:
    """The judge of a command, loaded when it is first asked for."""

    def __init__(self, command: EvalCommand):
        self.command = command
        # What gives every sample the same reward is asked once.
        self.k = 1 if kind_of(command) in CERTAIN else command.k

    @cached_property
    def judge(self) -> SampleSource:
        """What writes judgments, as it is."""
        command = self.command
        config = JudgeConfig(
            model=None if command.samples or command.endpoint else command.model,
            samples=command.samples,
            endpoint=command.endpoint,
            kind=command.judge_kind,
            reference=command.reference,
            templates=command.templates,
            strategy=command.strategy,
            max_new_tokens=command.max_new_tokens,
            rows=command.rows,
        )
        return open_judge(
            config, command.model, seed=command.seed, training=False, mesh=command.mesh
        )

    @cached_property
    def source(self) -> SampleSource:
        """The same, shown what it should be shown, and rated where there is a meta RM."""
        command, source = self.command, self._shown(self.judge)
        if command.meta_rm is None:
            return source
        return Rated(source, MetaRM.load(command.meta_rm, mesh=command.mesh, rows=command.rows))

    @property
    def greedy(self) -> SampleSource | None:
        """The same without chance, where it is ours and draws tokens."""
        if not isinstance(self.judge, Judge) or self.command.strategy.temperature == 0:
            return None
        return self._shown(Greedy(self.judge))

    def _shown(self, source: SampleSource) -> SampleSource:
        return PairInput(source) if self.command.input == "pair" else source


def run(command: EvalCommand) -> int:
    """Judges, scores, and writes; 0 where there is a report, and every row has an answer but for
    the share that may lack one."""
    try:
        return _run(command)
    except Unanswered as error:
        print(f"grm eval: {error}", file=sys.stderr)
        return 1


def _run(command: EvalCommand) -> int:
    judges = Judges(command)
    if command.benchmark == ALL:
        return _paper(command, judges)
    own = command.benchmark == "world" and command.data is not None
    benchmark = rows(str(command.data)) if own else find(command.benchmark)
    if own:
        command = replace(command, benchmark=benchmark.name, output=str(folder_of(command)))
    report = evaluate(command, benchmark, judges)
    return int(report is not None and lacks(report, command.unanswered))


def evaluate(command: EvalCommand, benchmark: Benchmark, judges: Judges) -> dict[str, Any] | None:
    """Judges what is missing in the command's folder, and writes and shows the report; returns it
    in the first process.

    Raises:
        ValueError, FileNotFoundError: what is missing or does not fit, such as a folder of
            another evaluation.
        Unanswered: not one row has an answer.
    """
    made = _made(command)
    with claimed_folder(folder_of(command), made, mark="settings.yaml") as folder:
        return _evaluate(command, benchmark, judges, folder, made.settings)


def _evaluate(
    command: EvalCommand,
    benchmark: Benchmark,
    judges: Judges,
    folder: Path,
    settings: Mapping[str, Any],
) -> dict[str, Any] | None:
    """As `evaluate`, in a folder that is claimed."""
    scalar = kind_of(command) in SCALAR
    where: dict[str, Any] = {"data": command.data, "limit": command.limit, "scalar": scalar}
    judge_benchmark(benchmark, judges.source, judges.k, folder, **where)
    if (greedy := judges.greedy) is not None:
        judge_benchmark(benchmark, greedy, 1, folder, name="greedy", **where)
    if not is_first():
        return None
    judge = judges.judge
    report = write_report(
        benchmark,
        folder,
        settings=settings,
        k_meta=command.k_meta,
        scalar=scalar,
        usage=asdict(judge.usage) if isinstance(judge, EndpointJudge) else None,
    )
    # Its files have no place for the word "incomplete".
    if benchmark.name in SUBMISSIONS and not report["unanswered_rows"]:
        write_submission(benchmark, folder, report)
    page = write_page(folder)
    show_report(report)
    say(f"Open {page} in a browser; compare with another by `grm compare {folder} OTHER`.")
    return report


def lacks(report: Mapping[str, Any], share: float) -> bool:
    """Whether a greater share of the rows than this has no answer."""
    return max(part["unanswered_share"] for part in (report, report["greedy"] or report)) > share


def _paper(command: EvalCommand, judges: Judges) -> int:
    """The four benchmarks of Overall, each in a folder of its own."""
    # Before anything is judged, what is missing is said; the last first, which is not on the hub.
    for benchmark in reversed(PAPER):
        benchmark.read(command.data)
    paper = folder_of(command) / "paper.json"
    check_file(paper, json_with("title", "rows", "partial"), "an Overall of grm eval")
    reports = {}
    for benchmark in PAPER:
        part = replace(
            command, benchmark=benchmark.name, output=str(folder_of(command) / benchmark.name)
        )
        reports[benchmark.headline] = evaluate(part, benchmark, judges)
    if is_first():
        overall = show_paper(reports)
        write_whole(paper, json.dumps(overall, indent=2) + "\n")
        return int(any(lacks(report, command.unanswered) for report in reports.values()))
    return 0


def _made(command: EvalCommand) -> Made:
    """All that decides the result, but for the rows, which are looked at one by one."""
    settings = {name: value for name, value in asdict(command).items() if name not in FREE}
    return Made("grm eval", settings, (), from_first(lambda: made_from(settings, JUDGES)))
