"""What every experiment is told: which judges, on which benchmark; and their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from grm_jax.data.sources import BadRow
from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.benchmarks import find, rows
from grm_jax.evals.run import judge_benchmark
from grm_jax.judging.collect import Rated
from grm_jax.judging.folder import folder_kind, model_path
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.meta import MetaRM
from grm_jax.judging.samples import SampleSource
from grm_jax.judging.sources import JudgeConfig, open_judge
from grm_jax.sampling.strategy import Strategy
from grm_jax.text.messages import Example
from grm_jax.text.prompts import load_templates

SCALAR = ("bt", "pair", "cloud")
Wrap = Callable[[SampleSource], SampleSource]


@dataclass(frozen=True)
class Setting:
    """Judges on a benchmark.

    Args:
        output: the folder for samples, data.json, table.md, figures and index.html; by default
            runs/experiments/NAME. The same command goes on with what is there.
        benchmark: "world" (the bundled models' own), or a name that `grm eval` knows.
        data: its rows, a hub id or a path, where they are not at the official place; without a
            benchmark any labelled rows.
        limit: how many rows to judge, spread evenly over the subsets.
        models: bundled models, model folders of any kind, or hub ids.
        judges: further judges by name, each with settings of its own, best in a YAML file.
        meta_rm: a model that rates samples: "tiny-meta", a folder, or a hub id.
        k: samples per row: the pool from which every smaller number is drawn.
        strategy: how the models draw tokens (the paper's temperature for k > 1 is 0.5).
        rows: samples decoded at once.
        seed: of orders and tokens.

    Raises:
        ValueError: no such benchmark, no judge, two of one name, or a number out of its range.
    """

    output: str | None = None
    benchmark: str = "world"
    data: str | None = None
    limit: int | None = None
    models: tuple[str, ...] = ("tiny",)
    judges: dict[str, JudgeConfig] = field(default_factory=dict)
    meta_rm: str | None = None
    k: int = 8
    strategy: Strategy = field(default_factory=lambda: Strategy(temperature=0.5))
    rows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        find(self.benchmark)
        if self.k < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"k is {self.k} and limit is {self.limit}; give 1 or more.")
        if not self.models and not self.judges:
            raise ValueError("there is no judge: name one or more models.")
        named_judges(self)


def named_judges(setting: Setting) -> dict[str, JudgeConfig]:
    """All judges by name: a model is called by its folder, or the folder above a `model`.

    Raises:
        ValueError: two have one name.
    """
    found: dict[str, JudgeConfig] = {}
    for model in setting.models:
        path = Path(model)
        name = path.parent.name if path.name == "model" and path.parent.name else path.name
        if name in found or name in setting.judges:
            raise ValueError(f"two judges are called {name!r}: name them under judges.")
        found[name] = JudgeConfig(model=model, strategy=setting.strategy, rows=setting.rows)
    return found | setting.judges


def benchmark_of(setting: Setting) -> Benchmark:
    """The benchmark that is named, or the rows of a file of one's own.

    Raises:
        FileNotFoundError, ValueError: no such file, or nothing in it to measure.
    """
    if setting.benchmark == "world" and setting.data is not None:
        return rows(setting.data)
    return find(setting.benchmark)


def templates_of(judge: JudgeConfig) -> Path | None:
    """The judge's own templates: given, or beside its model; None: the built-in ones."""
    if judge.templates or judge.endpoint:
        given = judge.templates or (judge.endpoint and judge.endpoint.templates)
        return Path(given) if given else None
    own = model_path(judge.model) / "templates" if judge.model else None
    return own if own is not None and own.is_dir() else None


def check_shows(judges: Mapping[str, JudgeConfig], field: str) -> None:
    """Raises ValueError where a judge's prompt has no place for a field of the template."""
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
    """The file with k judgments of every row, sampled where it is not there.

    Args:
        wrap: puts something around the judge, such as `PairInput`.
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


def _open(setting: Setting, judge: JudgeConfig, wrap: Wrap | None, training: bool) -> SampleSource:
    source = open_judge(judge, "tiny", seed=setting.seed, training=training)
    if wrap is not None:
        source = wrap(source)
    if setting.meta_rm is not None and not is_scalar(judge):
        source = Rated(source, MetaRM.load(setting.meta_rm, rows=setting.rows))
    return source


def is_scalar(judge: JudgeConfig) -> bool:
    """Whether the judge is a scalar model, for which some benchmarks have a rule of their own."""
    kind = judge.kind or (folder_kind(judge.model) if judge.model else "grm")
    return kind in SCALAR


class Late:
    """A judge that is loaded when something is left to judge."""

    def __init__(self, load: Callable[[], SampleSource], judge: JudgeConfig):
        self._load = load
        self.on_devices = judge.endpoint is None and judge.samples is None

    def sample_all(self, examples: Iterable[Example], k: int) -> Iterator[Sampled | Refusal]:
        """As the judge's."""
        left = iter(examples)
        if (first := next(left, None)) is not None:
            yield from self._load().sample_all(chain([first], left), k)


def only(benchmark: Benchmark, keep: Callable[[Example], bool], what: str) -> Benchmark:
    """The benchmark's rows for which `keep` holds; it is then partial, and its title says why."""

    def read(data: str | None) -> Iterator[Example | BadRow]:
        rows = benchmark.read(data)
        return (row for row in rows if isinstance(row, BadRow) or keep(row))

    return replace(benchmark, title=f"{benchmark.title}, {what}", read=read)
