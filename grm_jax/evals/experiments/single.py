"""Single responses, right or wrong (Table 13): how well scores separate them, by ROC-AUC."""

from __future__ import annotations

from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.arms import Arm, arms_json, arms_panel, compare, paper_panel
from grm_jax.evals.experiments.config import SingleConfig
from grm_jax.evals.experiments.figures import Figure
from grm_jax.evals.experiments.findings import Findings, Grid, plain
from grm_jax.evals.experiments.setting import benchmark_of, measure_judges
from grm_jax.evals.votes import Vote


def run(cfg: SingleConfig, folder: Path) -> Findings:
    """Judges every single response k times."""
    # The world's labels are right and wrong; on the ordinary scale what is asked for counts too.
    small = cfg.benchmark == "world-single"
    votes = [Vote(1), Vote(cfg.k)]
    measured = measure_judges(cfg, benchmark_of(cfg), folder, votes, training=small)
    return findings(
        [Arm(f"{name}, {vote.label}", m, vote) for name, m in measured.items() for vote in m.cells]
    )


def findings(arms: list[Arm]) -> Findings:
    """The table and the figure."""
    bench, title = arms[0].measured.benchmark, arms[0].measured.title
    further = [cell for cell in arms[0].measured.cells[arms[0].vote] if cell != bench.headline]
    theirs = {row["model"]: row["roc_auc"] for row in paper.table("table13_realmistake")}
    return Findings(
        name="single",
        title="Single responses",
        text=(
            "The area under the ROC curve of the summed score against right and wrong, times 100: "
            "the chance that a right response scores above a wrong one, a tie counting half.",
            f"Ours are small models on {title}; the paper's are 16B to 200B models on ReaLMistake.",
        ),
        grids=(
            compare(f"Ours: {title}, ROC-AUC [95 % interval]", arms, further),
            Grid(
                "The paper's Table 13: ReaLMistake",
                ["model", "ROC-AUC"],
                [[model, plain(value)] for model, value in theirs.items()],
            ),
        ),
        figures=(
            Figure(
                "single",
                f"Single responses: {title} (left), the paper's on ReaLMistake (right)",
                (
                    arms_panel(title, arms, "ROC-AUC, %"),
                    paper_panel("as the paper prints them", theirs, "ROC-AUC, %"),
                ),
            ),
        ),
        data={"benchmark": title, "arms": arms_json(arms)},
    )
