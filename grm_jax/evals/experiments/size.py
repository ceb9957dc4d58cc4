"""Inference-time scaling against model size (Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grm_jax.evals import paper
from grm_jax.evals.experiments.config import TO_MAKE, SizeConfig, named_judges
from grm_jax.evals.experiments.figures import Figure, Panel, Series, short
from grm_jax.evals.experiments.findings import Findings, Grid, plain, shown
from grm_jax.evals.experiments.measure import Measured
from grm_jax.evals.experiments.setting import benchmark_of, measure_judges
from grm_jax.evals.votes import Vote, doublings
from grm_jax.judging.folder import model_path
from grm_jax.models.hf_config import config_from_hf
from grm_jax.models.model import Model
from grm_jax.processes import say


def run(cfg: SizeConfig, folder: Path) -> Findings:
    """Samples a pool of k judgments per row and model, and measures every smaller number."""
    sizes, benchmark = doublings(cfg.k), benchmark_of(cfg)
    cfg, missing = made(cfg)
    for sentence in missing:
        say(sentence)
    judges = named_judges(cfg)
    measured = measure_judges(cfg, benchmark, folder, [Vote(k) for k in sizes])
    sized = [(parameters(judges[name].model or ""), m) for name, m in measured.items()]
    result = findings(sorted(sized, key=lambda pair: pair[0]), sizes)
    return replace(result, text=(*result.text, *missing))


def made(cfg: SizeConfig) -> tuple[SizeConfig, list[str]]:
    """The setting without the default models that are not made yet, and a sentence on each."""
    missing = [m for m in cfg.models if m in TO_MAKE and not Path(m).is_dir()]
    notes = [f"Left out: {m}, which is not there. Make it with: {TO_MAKE[m]}" for m in missing]
    return replace(cfg, models=tuple(m for m in cfg.models if m not in missing)), notes


def parameters(model: str) -> int:
    """The number of parameters in a model folder (the tied embedding counts once)."""
    config, head = config_from_hf(model_path(model))
    return Model(config, head).num_params()


def findings(models: Sequence[tuple[int, Measured]], sizes: Sequence[int]) -> Findings:
    """The table and the figure of (parameters, measured) pairs, from small to large."""
    title = models[0][1].title
    by_k = tuple(
        Series(f"{m.label}, {short(p)}", {k: m.value(Vote(k)) for k in sizes}, colour)
        for colour, (p, m) in enumerate(models)
    )
    ends = [k for k in sizes if k in (1, 8)] + [sizes[-1]] * (sizes[-1] not in (1, 8))
    by_size = tuple(
        Series(f"k = {k}", {p: m.value(Vote(k)) for p, m in models}, colour)
        for colour, k in enumerate(ends)
    )
    theirs_k, theirs_size = _theirs()
    y, paper_y = "accuracy, %", "RewardBench, %"
    lines = [[f"{m.label}", f"{p:,}", *(shown(m.value(Vote(k))) for k in sizes)] for p, m in models]
    return Findings(
        name="size",
        title="More samples, or a larger model",
        text=(
            "Models of one family and of several sizes, trained on the same data in the same "
            f"number of steps, against the number of samples, on {title}.",
            "The paper's Figure 4 is DeepSeek-GRM of 16B to 671B on RewardBench; where it prints "
            "no number, the height was read off the figure.",
        ),
        grids=(
            Grid(
                f"Ours: {title}, Voting@k",
                ["model", "parameters", *(f"k = {k}" for k in sizes)],
                lines,
            ),
            _paper(),
        ),
        figures=(
            Figure(
                "size",
                f"More samples, or a larger model: {title}",
                (
                    Panel("inference-time scaling", "samples per item, k", y, by_k),
                    Panel("model size", "parameters", y, by_size, ticks=False),
                ),
            ),
            Figure(
                "size-paper",
                "The same in the paper: DeepSeek-GRM on RewardBench",
                (
                    Panel("inference-time scaling", "samples per item, k", paper_y, theirs_k),
                    Panel("model size", "billions of parameters", paper_y, theirs_size),
                ),
            ),
        ),
        data={
            "benchmark": title,
            "k": list(sizes),
            "models": [{"parameters": p, **m.to_json()} for p, m in models],
        },
    )


def _theirs() -> tuple[tuple[Series, ...], tuple[Series, ...]]:
    """Panels a (against k) and b (against billions of parameters) of Figure 4."""
    panels: dict[str, dict[str, dict[float, float]]] = {"a": {}, "b": {}}
    for row in paper.table("figure4_scaling_vs_size"):
        line = panels[row["panel"]].setdefault(row["series"], {})
        line[row["x"]] = row["RewardBench"]
    first, second = (
        tuple(Series.plain(name, line, i) for i, (name, line) in enumerate(panels[panel].items()))
        for panel in "ab"
    )
    return first, second


def _paper() -> Grid:
    lines = [
        [
            row["series"],
            f"k = {row['x']:g}" if row["panel"] == "a" else f"{row['x']:g}B",
            plain(row["RewardBench"]) + ("" if row["exact"] else " (read off)"),
        ]
        for row in paper.table("figure4_scaling_vs_size")
    ]
    return Grid("The paper's Figure 4", ["line", "k, or size", "RewardBench"], lines)
