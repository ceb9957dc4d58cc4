"""How many samples the meta RM should keep (Table 4): MetaRM@K with k_meta = 1 .. K."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.config import KMetaConfig
from grm_jax.evals.experiments.figures import Figure, Panel, Series
from grm_jax.evals.experiments.findings import THEIRS, Findings, Grid, plain, shown
from grm_jax.evals.experiments.measure import Measured
from grm_jax.evals.experiments.setting import benchmark_of, measure_judges
from grm_jax.evals.votes import Vote, doublings


def run(cfg: KMetaConfig, folder: Path) -> Findings:
    """Samples and rates a pool of k judgments per row, and keeps more and more of it."""
    kept = doublings(cfg.k)
    votes = [Vote(cfg.k), *(Vote(cfg.k, True, k_meta) for k_meta in kept)]
    measured = measure_judges(cfg, benchmark_of(cfg), folder, votes)
    return findings([*measured.values()], cfg.k, kept)


def findings(judges: Sequence[Measured], k: int, kept: Sequence[int]) -> Findings:
    """The table and the figure; k_meta = k is plain voting.

    Raises:
        ValueError: a judge has no meta scores.
    """
    for judge in judges:
        if not judge.survey.rated:
            raise ValueError(f"{judge.label} has no meta scores: a scalar model is not rated.")
    title, theirs = judges[0].title, _theirs()
    series = tuple(
        Series(j.label, {m: j.value(Vote(k, True, m)) for m in kept}, colour)
        for colour, j in enumerate(judges)
    )
    lines = [[j.label, *(shown(j.value(Vote(k, True, m))) for m in kept)] for j in judges]
    for judge in judges:
        gains = [judge.gain(Vote(k, True, m), judge, Vote(k)) for m in kept]
        cells = [shown(gain, sign=True) for gain in gains]
        lines.append([f"{judge.label}, minus Voting@{k}, paired", *cells])
    x, y = "samples kept, k_meta", "accuracy, %"
    return Findings(
        name="k-meta",
        title="How many samples the meta RM should keep",
        text=(
            f"Of {k} samples per item, the k_meta with the highest meta score are summed; "
            f"k_meta = {k} keeps all of them and is plain voting.",
            f"Ours are small models on {title}; the paper's are {THEIRS}, of 32 samples.",
        ),
        grids=(
            Grid(f"Ours: {title}, MetaRM@{k}", ["judge", *(f"k_meta = {m}" for m in kept)], lines),
            Grid(
                f"The paper's Table 4: {THEIRS}, overall of four benchmarks, MetaRM@32",
                ["model", *(f"k_meta = {m}" for m in theirs)],
                [["DeepSeek-GRM-27B", *map(plain, theirs.values())]],
            ),
        ),
        figures=(
            Figure(
                "k-meta",
                f"MetaRM against the number of samples kept: {title} (left), the paper's (right)",
                (
                    Panel(f"{title}, of {k} samples", x, y, series),
                    Panel(
                        f"{THEIRS}, of 32 samples",
                        x,
                        "overall, %",
                        (Series.plain("DeepSeek-GRM-27B", theirs, 1),),
                    ),
                ),
            ),
        ),
        data={"benchmark": title, "k": k, "judges": [judge.to_json() for judge in judges]},
    )


def _theirs() -> dict[float, float]:
    """Table 4's numbers by k_meta; keeping all 32 is its Voting@32."""
    by_k_meta = {}
    for row in paper.table("table04_ablation_overall"):
        if row["setting"] == "voting@32":
            _, _, k_meta = row["method"].partition("k_meta=")
            by_k_meta[float(k_meta.rstrip(")")) if k_meta else 32.0] = row["Overall"]
    return dict(sorted(by_k_meta.items()))
