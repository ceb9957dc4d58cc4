"""What all experiments share: the judges, the benchmark, and the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks import find, rows
from grm_jax.evals.experiments.config import Setting, named_judges
from grm_jax.evals.experiments.measure import Measured, measure
from grm_jax.evals.run import judge_benchmark
from grm_jax.evals.votes import Vote
from grm_jax.judging.collect import Rated
from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.folder import folder_kind, model_path
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import open_judge
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates

SCALAR = ("bt", "pair", "cloud")
Wrap = Callable[[SampleSource], SampleSource]


def benchmark_of(setting: Setting) -> Benchmark:
    """The benchmark of this name, or the rows of your own file.

    Raises:
        FileNotFoundError, ValueError: no such file, or it has nothing to measure.
    """
    if setting.benchmark == "world" and setting.data is not None:
        return rows(setting.data)
    return find(setting.benchmark)


def templates_of(judge: JudgeConfig) -> Path | None:
    """The judge's own templates: given, or in its model folder; None: the built-in ones."""
    if judge.templates or judge.endpoint:
        given = judge.templates or (judge.endpoint and judge.endpoint.templates)
        return Path(given) if given else None
    own = model_path(judge.model) / "templates" if judge.model else None
    return own if own is not None and own.is_dir() else None


def check_shows(judges: Mapping[str, JudgeConfig], field: str) -> None:
    """Raises a ValueError if a judge's prompt has no place for a field of the template."""
    for name, judge in judges.items():
        kind = "grm" if judge.kind in (None, "grm") else "judge"
        if not load_templates(templates_of(judge)).asking(kind, 2, training=False).has(field):
            raise ValueError(
                f"the prompt of {name} has no place for {{{field}}}: the bundled models were not "
                "taught to read it. One that was: "
                "grm train sft --config configs/train/sft_shown.yaml"
            )


def sample(
    setting: Setting,
    benchmark: Benchmark,
    folder: Path,
    judge: JudgeConfig,
    *,
    wrap: Wrap | None = None,
    training: bool = False,
) -> Path:
    """The file with k judgments of every row, which are sampled if they are missing.

    Args:
        wrap: wraps the judge, for example in `PairInput`.
        training: single responses are judged right or wrong (1 or 0), as in RFT and RL.
    """
    source: SampleSource = Late(lambda: _open(setting, judge, wrap, training), judge)
    return judge_benchmark(
        benchmark,
        source,
        setting.k,
        folder,
        data=setting.data,
        limit=setting.limit,
        scalar=is_scalar(judge),
    )


def measure_judges(
    setting: Setting,
    benchmark: Benchmark,
    folder: Path,
    votes: Sequence[Vote],
    *,
    training: bool = False,
) -> dict[str, Measured]:
    """Every judge on the benchmark, by name; each has its samples in a folder of its own."""
    measured = {}
    for name, judge in named_judges(setting).items():
        path = sample(setting, benchmark, folder / name, judge, training=training)
        measured[name] = measure(name, benchmark, path, votes, scalar=is_scalar(judge))
    return measured


def _open(setting: Setting, judge: JudgeConfig, wrap: Wrap | None, training: bool) -> SampleSource:
    source = open_judge(judge, "tiny", seed=setting.seed, training=training)
    if wrap is not None:
        source = wrap(source)
    if setting.meta_rm is not None and not is_scalar(judge):
        source = Rated(source, MetaRM.load(setting.meta_rm, slots=setting.slots))
    return source


def is_scalar(judge: JudgeConfig) -> bool:
    """Whether the judge is a scalar model: some benchmarks have a rule of their own for those."""
    kind = judge.kind or (folder_kind(judge.model) if judge.model else "grm")
    return kind in SCALAR


class Late:
    """A judge that is only loaded if something is left to judge."""

    def __init__(self, load: Callable[[], SampleSource], judge: JudgeConfig):
        self._load = load
        self.on_devices = judge.endpoint is None and judge.samples is None

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """As the judge's."""
        left = iter(examples)
        if (first := next(left, None)) is not None:
            yield from self._load().sample_all(chain([first], left), k)


def only(benchmark: Benchmark, keep: Callable[[Example], bool], what: str) -> Benchmark:
    """The benchmark with only the rows that `keep` accepts: a partial one, whose title says why."""

    def read(data: str | None) -> Iterator[Example | BadRow]:
        rows = benchmark.read(data)
        return (row for row in rows if isinstance(row, BadRow) or keep(row))

    return replace(benchmark, title=f"{benchmark.title}, {what}", read=read)
