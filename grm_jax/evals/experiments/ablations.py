"""The worth of each part of SPCT (Table 4): runs of `grm train spct` with one part left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.arms import Arm, arms_json
from grm_jax.evals.experiments.config import AblationsConfig
from grm_jax.evals.experiments.figures import Figure, Panel, Series
from grm_jax.evals.experiments.findings import NONE, THEIRS, Findings, Grid, plain, shown
from grm_jax.evals.experiments.measure import measure
from grm_jax.evals.items import ITEMS
from grm_jax.evals.votes import Vote

STAGES = {"rft": "RFT", "grpo": "RFT, GRPO"}
# The line of Table 4 for a run and a stage.
PAPER = {
    ("full", "rft"): "DeepSeek-GRM-27B-RFT",
    ("full", "grpo"): "DeepSeek-GRM-27B",
    ("no-principles", "grpo"): "w/o Principle Generation",
    ("no-rejective", "grpo"): "w/o Rejective Sampling (then RL)",
    ("no-hinted", "rft"): "RFT w/o Hinted Sampling (1)",
    ("no-plain", "rft"): "RFT w/o Non-Hinted Sampling (2)",
    ("no-rejective", "rft"): "RFT w/o Rejective Sampling (1&2)",
    ("no-general", "rft"): "RFT w/o General Instruction Data",
}

# A model's measurements by name, and those of a run's models by stage.
Ways = dict[str, Arm]
Run = dict[str, Ways]


def run(cfg: AblationsConfig, folder: Path) -> Findings:
    """Reads the samples of the runs' evaluations; draws no new ones."""
    return findings({name: read_run(name, Path(path)) for name, path in cfg.runs.items()})


def read_run(name: str, folder: Path) -> Run:
    """The samples of a run's evaluation, measured.

    Raises:
        FileNotFoundError: there is no finished evaluation in the folder.
    """
    report = folder / "evaluation" / "report.json"
    if not report.is_file():
        raise FileNotFoundError(
            f"{folder} has no finished evaluation ({report}): run `grm train spct` to its end."
        )
    content = json.loads(report.read_text(encoding="utf-8"))
    k = content["k"]
    models: Run = {}
    for stage in (stage for stage in STAGES if stage in content["stages"]):
        greedy = measure(name, ITEMS, report.with_name(f"{stage}_greedy.jsonl"), [Vote(1)])
        votes = [Vote(1), Vote(k), Vote(k, guided=True)]
        pool = measure(name, ITEMS, report.with_name(f"{stage}.jsonl"), votes)
        models[stage] = {"greedy": Arm(name, greedy, Vote(1))}
        for vote in pool.cells:
            models[stage]["one sample" if vote.k == 1 else vote.label] = Arm(name, pool, vote)
    return models


def findings(runs: Mapping[str, Run]) -> Findings:
    """A table and a panel for each stage; runs are compared with the first run that has the stage.

    Raises:
        ValueError: the runs did not judge the same items.
    """
    groups = {
        stage: group
        for stage in STAGES
        if (group := {name: run[stage] for name, run in runs.items() if stage in run})
    }
    return Findings(
        name="ablations",
        title="What each part of SPCT is worth",
        text=(
            "Each run leaves one part of the training out and is otherwise the same; accuracy on "
            "held-out items, with paired differences to the run that leaves nothing out.",
            f"Ours are small models on the small world; the paper's are {THEIRS}, overall of four "
            "benchmarks, greedy.",
        ),
        grids=(
            *(_grid(stage, group) for stage, group in groups.items()),
            Grid(
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
                tuple(_panel(stage, group) for stage, group in groups.items()),
            ),
        ),
        data={
            stage: {
                way: arms_json([run[way] for run in group.values() if way in run])
                for way in next(iter(group.values()))
            }
            for stage, group in groups.items()
        },
    )


def _grid(stage: str, group: Mapping[str, Ways]) -> Grid:
    """The models of a stage, with the paper's numbers for them."""
    theirs = {
        row["method"]: plain(row["Overall"])
        for row in paper.table("table04_ablation_overall")
        if row["setting"] == "greedy"
    }
    first, ways = next(iter(group.items()))
    lines = []
    for name, arms in group.items():
        cells = [part for way in ways for part in _cells(arms.get(way), ways[way])]
        lines.append([name, *cells, theirs.get(PAPER.get((name, stage), ""), "")])
    columns = [part for way in ways for part in (way, f"minus {first}")]
    return Grid(f"{STAGES[stage]}: ours", ["run", *columns, "the paper's"], lines)


def _cells(arm: Arm | None, base: Arm) -> tuple[str, str]:
    """An accuracy, and its difference from the first run's."""
    if arm is None:
        return NONE, NONE
    return shown(arm.value()), "" if arm is base else shown(arm.gain(base), sign=True)


def _panel(stage: str, group: Mapping[str, Ways]) -> Panel:
    ways = next(iter(group.values()))
    series = tuple(
        Series(
            way,
            {float(i): arms[way].value() for i, arms in enumerate(group.values()) if way in arms},
            colour,
        )
        for colour, way in enumerate(ways)
    )
    return Panel(STAGES[stage], "", "accuracy, %", series, tuple(group))
