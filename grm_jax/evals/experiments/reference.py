"""With and without a reference answer in the prompt (Table 12)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.arms import Arm, arms_json, arms_panel, compare, paper_panel
from grm_jax.evals.experiments.config import ReferenceConfig, named_judges
from grm_jax.evals.experiments.figures import Figure
from grm_jax.evals.experiments.findings import THEIRS, Findings, Grid, plain
from grm_jax.evals.experiments.measure import Measured, measure
from grm_jax.evals.experiments.setting import benchmark_of, check_shows, only, sample
from grm_jax.evals.votes import Vote


def run(cfg: ReferenceConfig, folder: Path) -> Findings:
    """Judges the rows with a reference answer both ways."""
    benchmark = only(
        benchmark_of(cfg), lambda example: example.reference is not None, "with a reference"
    )
    judges = named_judges(cfg)
    check_shows(judges, "reference")
    votes = [Vote(1), Vote(cfg.k), Vote(cfg.k, guided=True)]
    measured = []
    for name, judge in judges.items():
        for label, shows in ((name, False), (f"{name} w/ Reference", True)):
            own = folder / (f"{name}-reference" if shows else name)
            path = sample(cfg, benchmark, own, replace(judge, reference=shows))
            measured.append(measure(label, benchmark, path, votes))
    return findings(measured, cfg.k)


def findings(measured: list[Measured], k: int) -> Findings:
    """The table and the figure; judges alternate: without, with, without, with .."""
    arms = [
        [
            Arm(f"{without.label}, k = 1", without, Vote(1)),
            Arm(f"{without.label}, Voting@{k}", without, Vote(k)),
            *([Arm(f"{without.label}, MetaRM@{k}", without, Vote(k, True))] * without.survey.rated),
            Arm(f"{shown.label}, k = 1", shown, Vote(1)),
            Arm(f"{shown.label}, Voting@{k}", shown, Vote(k)),
        ]
        for without, shown in zip(measured[::2], measured[1::2], strict=True)
    ]
    title = measured[0].title
    theirs = {row["method"]: row["Overall"] for row in paper.table("table12_reference")}
    return Findings(
        name="reference",
        title="With a reference answer",
        text=(
            "The same items without and with a right answer in the prompt.",
            f"Ours are small models on {title}; the paper's are {THEIRS} (PPE Correctness).",
        ),
        grids=(
            *(compare(f"Ours: {title}", group) for group in arms),
            Grid(
                "The paper's Table 12: PPE Correctness",
                ["method", "accuracy"],
                [[method, plain(value)] for method, value in theirs.items()],
            ),
        ),
        figures=(
            Figure(
                "reference",
                f"What a reference answer is worth: {title} (left), the paper's (right)",
                (
                    arms_panel(title, [arm for group in arms for arm in group]),
                    paper_panel(THEIRS, theirs, "accuracy, %"),
                ),
            ),
        ),
        data={"benchmark": title, "arms": [arms_json(group) for group in arms]},
    )
