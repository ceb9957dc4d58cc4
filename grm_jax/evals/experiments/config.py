"""The settings of the experiments; nothing here needs jax."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from grm_jax.judging.config import JudgeConfig
from grm_jax.sampling.strategy import Strategy


@dataclass(frozen=True)
class Setting:
    """Judges on a benchmark.

    Args:
        output: the folder for samples, data.json, table.md, figures and index.html; by default
            runs/experiments/NAME. The same command continues from what is there.
        benchmark: "world" (the bundled models' own), or a name that `grm eval` knows.
        data: its rows, a hub id or a path, where they are not at the official place; without a
            benchmark any labelled rows.
        limit: how many rows to judge, spread evenly over the subsets.
        models: bundled models, model folders of any kind, or hub ids.
        judges: further judges by name, each with settings of its own, best in a YAML file.
        meta_rm: a model that rates samples: "tiny-meta", a folder, or a hub id.
        k: samples per row: the pool from which every smaller number is drawn.
        strategy: how the models draw tokens (the paper's temperature for k > 1 is 0.5).
        slots: samples decoded at once.
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
    slots: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        # Imported here because it is slow to import, and a --help does not need it.
        from grm_jax.evals.benchmarks import find

        find(self.benchmark)
        if self.k < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"k is {self.k} and limit is {self.limit}; give 1 or more.")
        if not self.models and not self.judges:
            raise ValueError("there is no judge: name one or more models.")
        named_judges(self)


def named_judges(setting: Setting) -> dict[str, JudgeConfig]:
    """All judges by name: a model has the name of its folder, or of the folder above a `model`.

    Raises:
        ValueError: two judges have the same name.
    """
    judges: dict[str, JudgeConfig] = {}
    for model in setting.models:
        path = Path(model)
        name = path.parent.name if path.name == "model" and path.parent.name else path.name
        if name in judges or name in setting.judges:
            raise ValueError(f"two judges are called {name!r}: name them under judges.")
        judges[name] = JudgeConfig(model=model, strategy=setting.strategy, slots=setting.slots)
    return judges | setting.judges


@dataclass(frozen=True)
class ScalingConfig(Setting):
    """Accuracy against k: Voting@1, 2, 4 .. k, and MetaRM@k with a meta RM (Table 3, Figure 1)."""

    models: tuple[str, ...] = ("tiny-start", "tiny")
    meta_rm: str | None = "tiny-meta"
    k: int = 32


@dataclass(frozen=True)
class KMetaConfig(Setting):
    """MetaRM@k with k_meta = 1, 2, 4 .. k, from one pool of k samples (Table 4)."""

    meta_rm: str | None = "tiny-meta"
    k: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.meta_rm is None:
            raise ValueError("give a meta_rm: it chooses the samples that are kept.")


@dataclass(frozen=True)
class InputConfig(Setting):
    """List against pair input on rows with more than two responses (Table 11)."""

    k: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.meta_rm is not None:
            raise ValueError("a meta RM reads judgments of all responses, not of pairs: give none.")


@dataclass(frozen=True)
class ReferenceConfig(Setting):
    """One sample and Voting@k, without and with the reference answer of each row (Table 12).

    With a meta RM also MetaRM@k without it. The model's templates must have a place for it (the
    built-in ones do). Of the small world, `grm train sft --config configs/train/sft_shown.yaml`
    and then the same with sft_reference.yaml make such a model.
    """

    models: tuple[str, ...] = ("runs/sft_reference/model",)


SINGLE = ("world-single", "realmistake")


@dataclass(frozen=True)
class SingleConfig(Setting):
    """Single responses: ROC-AUC of the summed score against right and wrong (Table 13).

    benchmark "realmistake" is the paper's, scored from 1 to 10; "world-single" is single responses
    of the small world, which its models judge right (1) or wrong (0).
    """

    benchmark: str = "world-single"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.benchmark not in SINGLE:
            raise ValueError(
                f"benchmark is {self.benchmark!r}; of single responses are {' and '.join(SINGLE)}."
            )


@dataclass(frozen=True)
class PrinciplesConfig(Setting):
    """One sample with no principles, its own, filtered ones, another model's (Tables 1, 14).

    Filtered principles are those of the first of k judgments that was right by the label, so this
    arm knows what no judge knows; a row without a right one keeps those of its first judgment.
    With several models each is also given the principles that the others wrote first. Accuracy is
    of a single sample, averaged over k. The templates of the model must have a place for
    principles (the built-in ones do); those without any are in no_principles/ beside the model's
    own, or built in. Of the small world, `grm train sft --config configs/train/sft_shown.yaml`
    makes such a model.
    """

    models: tuple[str, ...] = ("runs/sft_shown/model",)
    k: int = 4


# Models of a quarter and of half the start model's width, where their commands put them.
TO_MAKE = {
    f"runs/size/{preset}/model": f"grm train sft --config configs/train/sft_tiny.yaml --start "
    f"new:{preset} --output runs/size/{preset}"
    for preset in ("tiny-quarter", "tiny-half")
}


@dataclass(frozen=True)
class SizeConfig(Setting):
    """Models of several sizes, trained in the same way, against the number of samples (Figure 4).

    By default the bundled start model, and beside it the models of half and of a quarter of its
    width that its own recipe makes: grm train sft --config configs/train/sft_tiny.yaml --start
    new:tiny-half --output runs/size/tiny-half, and the same with tiny-quarter. What of these two is
    not there is left out, and said.
    """

    models: tuple[str, ...] = (*TO_MAKE, "tiny-start")
    k: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if nameless := [name for name, judge in named_judges(self).items() if judge.model is None]:
            raise ValueError(f"{nameless[0]} is no model folder: its size is not known.")


@dataclass(frozen=True)
class RealConfig(Setting):
    """Judges on the held-out rows of `grm data real`: by k, by kind of fault, by position, and
    beside what length and features of the surface reach. Differences are paired by row.

    Single responses are judged right (1) or wrong (0). List the judges in the order in which one
    was made from the other.

    Args:
        train: the rows on which the features of the surface are fitted; by default train.jsonl
            beside `data`.
        k_before: samples per row of all judges but the last, by default as many as of that.

    Raises:
        ValueError: no file of rows, or k_before is not 1 to k.
    """

    data: str | None = "runs/real_data/heldout.jsonl"
    models: tuple[str, ...] = ("smol",)
    train: str | None = None
    k_before: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.benchmark != "world" or self.data is None:
            raise ValueError(
                f"benchmark is {self.benchmark!r} and data is {self.data}: give data, a file of "
                "rows that `grm data real` has made, and no benchmark."
            )
        if self.k_before is not None and not 1 <= self.k_before <= self.k:
            raise ValueError(f"k_before is {self.k_before} and k is {self.k}: give 1 to k.")


@dataclass(frozen=True)
class LengthsConfig:
    """Mean length of a critique in tokens, by section, from files of samples (Figure 7).

    Such files are the samples.jsonl of `grm eval` and of the other experiments, and the
    evaluation/*.jsonl of a run of `grm train spct`. All must judge the same sections.

    Args:
        files: by the name of each model, its file of samples.
        by: which entry of a row's meta names its section: "subset", or "kind" and "ask" of the
            small world.
        output: by default runs/experiments/lengths.

    Raises:
        ValueError: no file is named.
    """

    files: dict[str, str] = field(default_factory=dict)
    by: str = "subset"
    output: str | None = None

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError('no files are named: give --files \'{"RFT": "PATH", "RL": "PATH"}\'.')


# What each run of Table 4 leaves out.
ABLATIONS = ("full", "no-principles", "no-rejective", "no-hinted", "no-plain", "no-general")


@dataclass(frozen=True)
class AblationsConfig:
    """Runs of `grm train spct`, the full one first, as Table 4 has them.

    A run is called after what it leaves out, so that the paper's line can stand beside it. On the
    small world, from a model that can also judge without stating principles:

      grm train sft --config configs/train/sft_shown.yaml
      grm train spct --config configs/train/spct_tiny.yaml --meta_rm null --evaluation.k 4
        --start runs/sft_shown/model --grpo.filter.judge.model runs/sft_shown/model
        --evaluation.k_start 1 --output runs/ablations/full

    and the last one for each of the others, with

      no-principles   --rft.principles false
      no-rejective    --rft.n_plain 0 --rft.n_hinted 0
      no-hinted       --rft.n_hinted 0
      no-plain        --rft.n_plain 0
      no-general      --rft.general_share 0

    Args:
        runs: by name, the output folder of each run; other names have no line of the paper's.
        output: by default runs/experiments/ablations.

    Raises:
        ValueError: no run is named.
    """

    runs: dict[str, str] = field(
        default_factory=lambda: {name: f"runs/ablations/{name}" for name in ABLATIONS}
    )
    output: str | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs names no run: give a folder of `grm train spct` for each name.")


@dataclass(frozen=True)
class JudgesConfig(Setting):
    """Judges of any kind on one benchmark, each beside the first (Table 2).

    A model folder says itself which kind it is (grm, judge, token-prob, bt, pair, cloud); with a
    meta RM, judges that write have a row with MetaRM@k too.
    """
