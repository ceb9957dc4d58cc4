"""The options of every command, as dataclasses; nothing imported here imports jax."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from grm_jax.aot.config import AotCommand, AotCostCommand, AotMatrixCommand
from grm_jax.bench.config import JudgeBench, SamplerBench, TrainBench
from grm_jax.cli.config import TABLES, EnvCommand, TableCommand
from grm_jax.data.config import WORLD, ItemsConfig
from grm_jax.data.real.config import RealDataConfig
from grm_jax.evals.experiments import config as configs
from grm_jax.judging.config import Weights
from grm_jax.judging.judgment import check_adaptive, check_samples
from grm_jax.judging.kinds import Kind
from grm_jax.judging.server import EndpointConfig
from grm_jax.mesh import MeshConfig
from grm_jax.sampling.strategy import Strategy
from grm_jax.serve.config import ServeCommand
from grm_jax.train.config import RunConfig
from grm_jax.train.stages.grpo import GRPOConfig
from grm_jax.train.stages.rft import RFTConfig
from grm_jax.train.stages.scorer import MetaRMConfig, ScalarConfig
from grm_jax.train.stages.sft import SFTConfig
from grm_jax.train.stages.spct import SPCTConfig


@dataclass(frozen=True)
class JudgeOptions:
    """Which judge is asked, and how.

    Args:
        model: "tiny" (bundled), a folder in Hugging Face's layout, a GGUF file, or a hub id.
        judge_kind: What the model is; by default what its grm.json says, else a pointwise GRM.
        samples: A file of judgments (an evaluation's samples.jsonl) instead of a model.
        endpoint: An OpenAI-compatible server instead of a model.
        templates: A folder of prompt templates that replace those of the same name; by default the
            model's own.
        chat: Arguments of the model's chat template, such as {enable_thinking: false}.
        reference: Show the reference answer where a row has one.
        principles: A file with a rubric (.txt, .json, or .jsonl with one for each prompt), by which
            rows without principles of their own are judged; or a folder, where the judge's own are
            kept: it writes them once per query, and its judgments then cost a critique only.
        k: Samples per row; their scores are summed.
        weights: "int8" keeps the matrices of the model's layers in a byte each: less memory,
            slightly other scores (the meta RM stays as it is).
        meta_rm: A model that rates the samples, of which then only the better ones are summed:
            "tiny-meta" (bundled), a folder, or a hub id.
        k_meta: How many of them; by default half of k.
        strategy: How tokens are drawn (the paper's temperature for k > 1 is 0.5).
        max_new_tokens: Room for one judgment; by default what the model folder says.
        seed: The seed of orders and tokens; the same seed gives the same verdicts.
        slots: Samples decoded at once: more is faster, as long as memory lasts.
        mesh: Spread over several devices: how many along data, fsdp and tensor. In a job of several
            processes all its devices by default.
    """

    model: str = "tiny"
    judge_kind: Kind | None = None
    samples: str | None = None
    endpoint: EndpointConfig | None = None
    templates: str | None = None
    chat: dict[str, Any] | None = None
    reference: bool = False
    principles: str | None = None
    k: int = 8
    weights: Weights | None = None
    meta_rm: str | None = None
    k_meta: int | None = None
    strategy: Strategy = field(default_factory=lambda: Strategy(temperature=0.5))
    max_new_tokens: int | None = None
    seed: int = 0
    slots: int = 64
    mesh: MeshConfig | None = None

    def __post_init__(self) -> None:
        if self.k_meta is not None and (self.meta_rm is None or not 1 <= self.k_meta <= self.k):
            raise ValueError(
                f"k_meta is {self.k_meta} of {self.k} samples: give 1 to k, and a --meta-rm that "
                "chooses them."
            )
        if self.samples is not None and self.endpoint is not None:
            raise ValueError("samples and endpoint are both given: judgments have one source.")
        if self.principles is not None and self.samples is not None:
            raise ValueError("judgments in a file had their principles: leave out --principles.")
        if self.weights is not None and (self.samples or self.endpoint):
            raise ValueError("weights are those of a model: leave out --samples and --endpoint.")
        if self.chat is not None and (self.samples or self.endpoint):
            raise ValueError(
                "chat is for the chat template of a model: leave out --samples and --endpoint."
            )


def check_pairs(options: JudgeOptions, option: str) -> None:
    """Raises ValueError, naming the `option` for pair input, if there is a meta RM as well."""
    if options.meta_rm is not None:
        raise ValueError(
            f"a meta RM reads judgments of all responses: leave out --meta-rm or {option} pair."
        )


@dataclass(frozen=True)
class JudgeCommand(JudgeOptions):
    """Judge responses: principles, a critique and a score for each, summed over k samples.

    Without options it shows how the bundled model judges a few bundled questions.
    With --input and --output it writes one JSON line per row as soon as it is done, with a verdict
    or an "error", and finally puts them in the order of the rows. The same command again judges
    only rows that are new or have changed.

    Args:
        input: A file of rows (JSONL, JSON, CSV, TSV or Parquet, also as .gz or .zst), a folder of
            them, a hub data set, or "-" for standard input. Rows are such as
            {"prompt", "responses"} or {"prompt", "chosen", "rejected"}.
        output: The JSONL file for the verdicts; without it they are shown on the terminal.
        split: Which split of a folder or a hub data set to read.
        limit: Read only the first so many rows.
        shown: "list" shows the judge all responses at once, "pair" two at a time.
        adaptive: true: draw no more samples of a row, once those left of the k cannot change its
            winner; a number such as 0.99: once they leave it as it is with this probability.
        tokenizer: Take the tokenizer from this folder or hub id, not from the model's.
        dtype: What activations are computed in, float32 or bfloat16; by default float32 on a CPU
            and elsewhere the type of the weights.
    """

    input: str | None = None
    output: str | None = None
    split: str | None = None
    limit: int | None = None
    shown: Literal["list", "pair"] = "list"
    adaptive: bool | float = False
    tokenizer: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_samples(self.k)
        check_adaptive(self.adaptive)
        super().__post_init__()
        if self.shown == "pair":
            check_pairs(self, "--shown")
        if self.adaptive and (
            self.meta_rm or self.samples or self.endpoint or self.shown != "list"
        ):
            raise ValueError(
                "adaptive voting needs a model that is shown all responses at once, and counts all "
                "its samples: leave out --meta-rm, --samples, --endpoint and --shown pair."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least one row, or leave it out.")
        if self.output is not None and self.input is None:
            raise ValueError("there is an --output but no --input: name the rows to judge.")
        if self.output is not None and self.output.endswith(TABLES):
            raise ValueError(
                f"output is {self.output}, and verdicts are written as JSON lines, which can be "
                "continued: give a name such as verdicts.jsonl, and make a table of them with "
                f"`grm table verdicts.jsonl {self.output}`."
            )


@dataclass(frozen=True)
class EvalCommand(JudgeOptions):
    """Measure a judge on a benchmark, by the benchmark's own rules.

    Prints its cells with 95 % intervals for Voting@1, 2, 4 .. k, for one greedy judgment of each
    row, and with a meta RM for MetaRM@k and the paired difference; writes report.json, rows.jsonl,
    samples.jsonl with every critique, and index.html. If it is stopped, the same
    command goes on.

    Args:
        benchmark: "world" (the bundled models' own), rewardbench, rewardbench-2, prior-sets,
            ppe-preference, ppe-correctness, ppe-best-of-k, rmb, realmistake, judgebench, rm-bench;
            or "paper" for the four of the paper's Overall, beside the paper's rows.
        data: Where its rows are, a hub id or a path; by default its official place. Without a
            --benchmark, any file of rows with responses and a label.
        output: The folder for all of that; by default runs/eval/BENCHMARK-MODEL.
        unanswered: The share of rows that may have no answer (refused by a server, too long for the
            model); with more, the command ends with status 1. No number counts such rows.
        limit: Judge only so many rows, spread evenly over the subsets.
        input: "list" shows all responses at once, "pair" two at a time.
    """

    benchmark: str = "world"
    data: str | None = None
    output: str | None = None
    unanswered: float = 0.0
    limit: int | None = None
    input: Literal["list", "pair"] = "list"

    def __post_init__(self) -> None:
        if self.k < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"limit is {self.limit} and k is {self.k}; both must be at least 1.")
        if not 0 <= self.unanswered <= 1:
            raise ValueError(f"unanswered is {self.unanswered}; give a share of rows, 0 to 1.")
        super().__post_init__()
        if self.input == "pair":
            check_pairs(self, "--input")


@dataclass(frozen=True)
class CompareCommand:
    """Compare two evaluations of the same rows: grm compare FOLDER FOLDER.

    Prints the paired difference of every cell with its 95 % interval, and how many rows changed;
    writes a page with the critiques of such rows side by side.

    Args:
        a: The folder of the first evaluation.
        b: The folder of the second; differences are second minus first.
        output: The page; by default compare-with-A.html in the second folder.
    """

    a: str
    b: str
    output: str | None = None


@dataclass(frozen=True)
class ExportCommand:
    """Write a model as a folder to publish, for transformers, vLLM and grm_jax.

    It holds the weights, the tokenizer with its chat template, the settings of generation, prompt
    templates, and a model card (README.md) that says what the run was trained on, with which
    settings, versions and seed.

    Args:
        model: The folder of a finished run, of a model, or of an adapter; a bundled model; or a hub
            id.
        output: The folder to write.
        merge_adapter: Write the whole model, with the adapter merged into its weights, in the place
            of an adapter.
    """

    model: str
    output: str
    merge_adapter: bool = False


@dataclass(frozen=True)
class MathPairsConfig:
    """Pairs of a right and a wrong answer, as the paper makes them of MATH: a model answers each
    problem several times, and its final answers are matched with the gold one by a rule.

    Writes pairs.jsonl, rows of {prompt, chosen, rejected}, into the folder `output`; beside it
    answers.jsonl, what the model wrote, and report.json, counts. Stopped anywhere, the same command
    goes on. Rows that hold answers already need no model.

    Args:
        input: problems with solutions (MATH, GSM8K): a file, a folder or a hub id; or several, as
            a list of {source, split, name, data_dir, start, limit}.
        output: the folder.
        model: a model folder, or a hub id, that answers; of a chat model.
        endpoint: an OpenAI-compatible server that answers, in the place of a model; its own
            temperature and max_tokens count.
        answers: answers per problem.
        pairs: pairs per problem, at most; no answer is in two.
        instruction: what follows the problem when a model is asked; it is not in the pairs.
        strategy: how tokens are drawn.
        max_new_tokens: room for one answer.
        slots: answers decoded at once.
        mesh: devices to spread the model over.
        seed: of answers, and of which of them are paired.
    """

    input: tuple[ItemsConfig, ...] | str
    output: str = "runs/math_pairs"
    model: str | None = None
    endpoint: EndpointConfig | None = None
    answers: int = 8
    pairs: int = 1
    instruction: str = "Reason step by step, and put your final answer within \\boxed{}."
    strategy: Strategy = field(default_factory=Strategy)
    max_new_tokens: int = 1024
    slots: int = 64
    mesh: MeshConfig | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model is not None and self.endpoint is not None:
            raise ValueError("model and endpoint are both given: answers have one source.")
        if self.answers < 2 or self.pairs < 1:
            raise ValueError(
                f"answers is {self.answers} and pairs is {self.pairs}: a pair takes 2 answers or "
                "more, and a problem gives 1 pair or more."
            )
        given = self.input
        if WORLD in ([given] if isinstance(given, str) else [one.source for one in given]):
            raise ValueError("the small world has no such problems: name a file or a data set.")


# The options of each stage: those of a run, with its defaults, and its own.
STAGES: dict[str, tuple[RunConfig, type]] = {
    "sft": (RunConfig("runs/sft", "new:tiny"), SFTConfig),
    "rft": (RunConfig("runs/rft"), RFTConfig),
    "grpo": (RunConfig("runs/grpo"), GRPOConfig),
    "meta-rm": (RunConfig("runs/meta_rm", "tiny"), MetaRMConfig),
    "scalar": (RunConfig("runs/scalar"), ScalarConfig),
    "spct": (RunConfig("runs/spct"), SPCTConfig),
}


EXPERIMENTS: dict[str, Any] = {
    "scaling": configs.ScalingConfig,
    "k-meta": configs.KMetaConfig,
    "input": configs.InputConfig,
    "reference": configs.ReferenceConfig,
    "single": configs.SingleConfig,
    "principles": configs.PrinciplesConfig,
    "size": configs.SizeConfig,
    "lengths": configs.LengthsConfig,
    "ablations": configs.AblationsConfig,
    "judges": configs.JudgesConfig,
    "real": configs.RealConfig,
}
# Of a command with commands of its own, the options of each of these.
OPTIONS: dict[str, Any] = {
    "judge": JudgeCommand,
    "eval": EvalCommand,
    "serve": ServeCommand,
    "compare": CompareCommand,
    "table": TableCommand,
    "train": STAGES,
    "export": ExportCommand,
    "data": {"math-pairs": MathPairsConfig, "real": RealDataConfig},
    "experiment": EXPERIMENTS,
    "aot": AotCommand,
    "aot matrix": AotMatrixCommand,
    "aot cost": AotCostCommand,
    "bench": {"sampler": SamplerBench, "judge": JudgeBench, "train": TrainBench},
    "env": EnvCommand,
}
