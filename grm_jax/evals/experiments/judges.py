"""All judges on one benchmark (Table 2): one table with intervals, and paired differences."""

from __future__ import annotations

from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.arms import Arm, arms_json, arms_panel, compare, paper_grid
from grm_jax.evals.experiments.config import JudgesConfig
from grm_jax.evals.experiments.figures import Figure
from grm_jax.evals.experiments.findings import THEIRS, Findings
from grm_jax.evals.experiments.setting import benchmark_of, measure_judges
from grm_jax.evals.votes import Vote

COLUMNS = ("RewardBench", "PPE Preference", "PPE Correctness", "RMB", "Overall")


def run(cfg: JudgesConfig, folder: Path) -> Findings:
    """Judges the same rows with every judge."""
    votes = [Vote(cfg.k), Vote(cfg.k, guided=True)]
    arms = [
        Arm(name if len(measured.cells) == 1 else f"{name}, {vote.label}", measured, vote)
        for name, measured in measure_judges(cfg, benchmark_of(cfg), folder, votes).items()
        for vote in measured.cells
    ]
    return findings(arms, cfg.k)


def findings(arms: list[Arm], k: int) -> Findings:
    """The table and the figure; every arm is compared with the first."""
    bench, title = arms[0].measured.benchmark, arms[0].measured.title
    further = [cell for cell in arms[0].measured.cells[arms[0].vote] if cell != bench.headline]
    return Findings(
        name="judges",
        title="Judges of every kind",
        text=(
            f"The same items for all; {k} samples of each judge that samples are summed. "
            "Differences are paired: the same resampled items for both judges.",
            f"Ours are small models on {title}; the paper's Table 2 is of 27B models on the "
            "real benchmarks.",
        ),
        grids=(
            compare(f"Ours: {title}, percent [95 % interval]", arms, further),
            paper_grid(
                f"The paper's Table 2: {THEIRS}, and others",
                paper.table("table02_main"),
                ["group", "model"],
                COLUMNS,
            ),
        ),
        figures=(Figure("judges", "Judges of every kind", (arms_panel(title, arms),)),),
        data={"benchmark": title, "k": k, "arms": arms_json(arms)},
    )
