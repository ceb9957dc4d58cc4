"""All responses in one prompt, or all pairs of them (Table 11)."""

from __future__ import annotations

from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.arms import Arm, arms_json, arms_panel, compare, paper_grid
from grm_jax.evals.experiments.config import InputConfig, named_judges
from grm_jax.evals.experiments.figures import Figure
from grm_jax.evals.experiments.findings import THEIRS, Findings
from grm_jax.evals.experiments.measure import measure
from grm_jax.evals.experiments.setting import benchmark_of, only, sample
from grm_jax.evals.votes import Vote
from grm_jax.judging.pairs import PairInput


def run(cfg: InputConfig, folder: Path) -> Findings:
    """Judges the same rows both ways."""
    benchmark = only(benchmark_of(cfg), lambda example: example.n > 2, "more than two responses")
    votes = [Vote(cfg.k)]
    arms = []
    for name, judge in named_judges(cfg).items():
        for way, wrap in (("list", None), ("pair", PairInput)):
            path = sample(cfg, benchmark, folder / f"{name}-{way}", judge, wrap=wrap)
            label = f"{name}, {way}"
            arms.append(Arm(label, measure(label, benchmark, path, votes), votes[0]))
    return findings(arms)


def findings(arms: list[Arm]) -> Findings:
    """The table and the figure; arms alternate: list, pair, list, pair .."""
    title = arms[0].measured.title
    return Findings(
        name="input",
        title="List input against pair input",
        text=(
            "The same items twice: all responses in one prompt, and all pairs of them, where a "
            "response's score is the number of its wins (a tie counts half).",
            f"Ours are small models on {title}; the paper's are {THEIRS}: best-of-n of RMB.",
        ),
        grids=(
            *(
                compare(f"Ours: {title}, {pair[0].vote.label}", pair)
                for pair in zip(arms[::2], arms[1::2], strict=True)
            ),
            paper_grid(
                "The paper's Table 11: DeepSeek-GRM-27B, RMB's best-of-n",
                paper.table("table11_list_vs_pair"),
                ["input"],
                ["Helpfulness, best of n", "Harmlessness, best of n"],
            ),
        ),
        figures=(Figure("input", "List against pair input", (arms_panel(title, arms),)),),
        data={"benchmark": title, "arms": arms_json(arms)},
    )
