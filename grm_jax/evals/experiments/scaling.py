"""Inference-time scaling (Table 3, Figure 1): Voting@k and MetaRM@k from one pool of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.config import ScalingConfig
from grm_jax.evals.experiments.figures import Figure, Panel, Series
from grm_jax.evals.experiments.findings import THEIRS, Findings, Grid, plain, shown
from grm_jax.evals.experiments.measure import Measured
from grm_jax.evals.experiments.setting import benchmark_of, measure_judges
from grm_jax.evals.votes import Vote, doublings

COLUMNS = (1, 8, 32)  # the paper's k


def run(cfg: ScalingConfig, folder: Path) -> Findings:
    """Samples a pool of k judgments per row and judge, and measures every smaller number."""
    sizes = doublings(cfg.k)
    votes = [Vote(k, guided) for guided in (False, True) for k in sizes]
    measured = measure_judges(cfg, benchmark_of(cfg), folder, votes)
    return findings([*measured.values()], sizes)


def findings(judges: Sequence[Measured], sizes: Sequence[int]) -> Findings:
    """The table and the figure of judges that were all measured at the same numbers of samples."""
    by_k, by_tokens = [], []
    for colour, judge in enumerate(judges):
        for guided in (False, True)[: 1 + judge.survey.rated]:
            label = f"{judge.label}, {'MetaRM' if guided else 'Voting'}"
            values = {float(k): judge.value(Vote(k, guided)) for k in sizes}
            by_k.append(Series(label, values, colour, guided))
            tokens = judge.survey.mean_tokens
            costs = {k * tokens: value for k, value in values.items()} if tokens else {}
            by_tokens.append(Series(label, costs, colour, guided))
    title = judges[0].title
    figure = Figure(
        "scaling",
        f"More samples, a better verdict: {title} (left, middle), and the paper's (right)",
        (
            Panel(f"{title}, by samples", "samples per item, k", "accuracy, %", tuple(by_k)),
            Panel(
                f"{title}, by cost", "tokens per item", "accuracy, %", tuple(by_tokens), ticks=False
            ),
            Panel(f"{THEIRS}, overall", "samples per item, k", "overall, %", _theirs()),
        ),
    )
    return Findings(
        name="scaling",
        title="Scaling in the number of samples",
        text=(
            "Every k is drawn from one pool of samples per item, over many disjoint groups of k, "
            "so that each number is an unbiased estimate; intervals are 95 % of a bootstrap over "
            "items. MetaRM@k sums the better half of the k samples, by the meta RM.",
            f"Ours are small models on {title}; the paper's are {THEIRS}: the shapes can be "
            "compared, the numbers cannot.",
        ),
        grids=(_ours(judges, sizes), _paper()),
        figures=(figure,),
        data={"benchmark": title, "k": list(sizes), "judges": [j.to_json() for j in judges]},
    )


def _ours(judges: Sequence[Measured], sizes: Sequence[int]) -> Grid:
    lines = []
    for judge in judges:
        kinds = (False, True)[: 1 + judge.survey.rated]
        for guided in kinds:
            values = [shown(judge.value(Vote(k, guided))) for k in sizes]
            lines.append([f"{judge.label}, {'MetaRM' if guided else 'Voting'}@k", *values])
        if judge.survey.rated:
            gains = [judge.gain(Vote(k, True), judge, Vote(k)) for k in sizes]
            cells = [shown(gain, sign=True) for gain in gains]
            lines.append([f"{judge.label}, gain of MetaRM, paired", *cells])
        if judge.survey.mean_tokens:
            lines.append(
                [f"{judge.label}, tokens", *(f"{k * judge.survey.mean_tokens:,.0f}" for k in sizes)]
            )
    caption = f"Ours: {judges[0].title}, percent [95 % interval]"
    return Grid(caption, ["judge", *(f"k = {k}" for k in sizes)], lines)


def _paper() -> Grid:
    by_model: dict[str, dict[int, float]] = {}
    for row in paper.table("table03_scaling_overall"):
        if row["k"]:
            by_model.setdefault(row["model"], {})[int(row["k"])] = row["Overall"]
    lines = [[model, *(plain(v.get(k)) for k in COLUMNS)] for model, v in by_model.items()]
    return Grid(
        f"The paper's Table 3: {THEIRS} and others, overall of four benchmarks",
        ["model", *(f"k = {k}" for k in COLUMNS)],
        lines,
    )


def _theirs() -> tuple[Series, ...]:
    """Figure 1's lines; MetaRM@1 is Voting@1, since there is nothing to choose from."""
    voting, guided = {}, {}
    for row in paper.table("table03_scaling_overall"):
        if row["model"].startswith("DeepSeek-GRM-27B") and "RFT" not in row["model"]:
            line = guided if "MetaRM" in row["model"] else voting
            line[row["k"]] = row["Overall"]
    return (
        Series.plain("DeepSeek-GRM-27B, Voting", voting, 1),
        Series.plain("DeepSeek-GRM-27B, MetaRM", {1.0: voting[1.0]} | guided, 1, dashed=True),
    )
