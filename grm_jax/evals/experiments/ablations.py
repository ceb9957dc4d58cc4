"""What each part of SPCT is worth (Table 4): runs of `grm train spct` with a part left out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.benchmark import Benchmark, Table, credit
from grm_jax.evals.experiments.arms import Arm, arms_json, arms_panel, compare
from grm_jax.evals.experiments.figures import Figure
from grm_jax.evals.experiments.findings import Findings, Grid, grid, plain
from grm_jax.evals.experiments.measure import measure
from grm_jax.evals.experiments.theirs import THEIRS
from grm_jax.evals.scoring import Vote

STAGES = {"rft": "RFT", "grpo": "RFT, GRPO"}
# Which line of Table 4 a run and the model of a stage stand for.
PAPER = {
    ("full", "grpo"): "DeepSeek-GRM-27B",
    ("no-principles", "grpo"): "w/o Principle Generation",
    ("no-rejective", "grpo"): "w/o Rejective Sampling (then RL)",
    ("full", "rft"): "DeepSeek-GRM-27B-RFT",
    ("no-hinted", "rft"): "RFT w/o Hinted Sampling (1)",
    ("no-plain", "rft"): "RFT w/o Non-Hinted Sampling (2)",
    ("no-rejective", "rft"): "RFT w/o Rejective Sampling (1&2)",
    ("no-general", "rft"): "RFT w/o General Instruction Data",
}


@dataclass(frozen=True)
class AblationsConfig:
    """Runs of `grm train spct`, the full one first, as Table 4 has them.

    A run is called after what it leaves out, so that the paper's line can stand beside it. On the
    small world, from a model that can also judge without stating principles:

      grm train sft --config configs/train/sft_shown.yaml
      grm train spct --config configs/train/spct_tiny.yaml --meta_rm null --evaluation.k 4
        --start runs/sft_shown/model --grpo.filter.judge.model runs/sft_shown/model
        --output runs/ablations/full

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
        default_factory=lambda: {name: f"runs/ablations/{name}" for name, _ in PAPER}
    )
    output: str | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs names no run: give a folder of `grm train spct` for each name.")


def run(cfg: AblationsConfig, folder: Path) -> Findings:
    """Reads what the runs' evaluations have sampled; nothing is sampled."""
    return findings([read_run(name, Path(path)) for name, path in cfg.runs.items()])


@dataclass(frozen=True)
class Run:
    """The trained models of a run, the last stage first: without chance, by one sample of the
    pool, and by all of it."""

    greedy: list[Arm]
    once: list[Arm]
    voting: list[Arm]


def read_run(name: str, folder: Path) -> Run:
    """What the evaluation of a run has sampled.

    Raises:
        FileNotFoundError: there is no finished evaluation in the folder.
    """
    report = folder / "evaluation" / "report.json"
    if not report.is_file():
        raise FileNotFoundError(
            f"{folder} has no finished evaluation ({report}): run `grm train spct` to its end."
        )
    told = json.loads(report.read_text(encoding="utf-8"))
    found = Run([], [], [])
    for stage in (stage for stage in reversed(STAGES) if stage in told["stages"]):
        label = f"{name}: {STAGES[stage]}"
        greedy = measure(label, ITEMS, report.with_name(f"{stage}_greedy.jsonl"), [Vote(1)])
        found.greedy.append(Arm(label, greedy, Vote(1)))
        votes = [Vote(told["k"]), Vote(told["k"], guided=True)]
        pool = measure(label, ITEMS, report.with_name(f"{stage}.jsonl"), [Vote(1), *votes])
        found.once.append(Arm(label, pool, Vote(1)))
        found.voting.extend(
            Arm(f"{label}, {vote.label}", pool, vote) for vote in votes if vote in pool.cells
        )
    return found


def findings(runs: list[Run]) -> Findings:
    """The tables and the figure; everything is held against the first run's last model.

    Raises:
        ValueError: the runs did not judge the same items.
    """
    greedy = [arm for run in runs for arm in run.greedy]
    once = [arm for run in runs for arm in run.once]
    voting = [arm for run in runs for arm in run.voting]
    return Findings(
        name="ablations",
        title="What each part of SPCT is worth",
        text=(
            "Each run leaves one part of the training out and is otherwise the same; accuracy on "
            "held-out items, with paired differences to the full run.",
            f"Ours are small models on the small world; the paper's are {THEIRS}, overall of four "
            "benchmarks.",
        ),
        grids=(
            _beside_paper(greedy),
            compare("Ours: one sample", once),
            compare("Ours: with all samples", voting),
            grid(
                f"The paper's Table 4: {THEIRS}",
                ["setting", "method", "overall"],
                [
                    [row["setting"], row["method"], plain(row["Overall"])]
                    for row in paper.table("table04_ablation_overall")
                ],
            ),
        ),
        figures=(
            Figure(
                "ablations",
                "Accuracy with a part of the training left out",
                (arms_panel("greedy", greedy), arms_panel("one sample", once)),
            ),
        ),
        data={
            "greedy": arms_json(greedy),
            "one sample": arms_json(once),
            "voting": arms_json(voting),
        },
    )


def _beside_paper(arms: list[Arm]) -> Grid:
    """Greedy accuracy of each model, and the line of the paper's that it stands for."""
    theirs = {
        row["method"]: plain(row["Overall"])
        for row in paper.table("table04_ablation_overall")
        if row["setting"] == "greedy"
    }
    ours = compare("Ours, greedy", arms)
    lines = []
    for arm, cells in zip(arms, ours.rows, strict=True):
        name, _, stage = arm.label.partition(": ")
        known = PAPER.get((name, next(key for key, value in STAGES.items() if value == stage)))
        lines.append([*cells, known or "", theirs[known] if known else ""])
    columns = [*ours.columns, "the paper's line", "its overall"]
    return grid("Ours on held-out items of the small world, greedy; the paper's", columns, lines)


def _mean(table: Table) -> dict[str, float]:
    return {"accuracy": 100 * float(table.values.mean())}


ITEMS = Benchmark(
    name="items",
    title="held-out items",
    hub="a run of grm train spct",
    full={},
    found=lambda table: {},
    headline="accuracy",
    read=lambda data: iter(()),
    value=lambda example, totals, scalar: (credit(totals, example.label or 0),),
    cells=_mean,
)
