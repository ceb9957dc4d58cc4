"""How long critiques are, per section of a benchmark, before and after RL (Figure 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from grm_jax.evals import paper
from grm_jax.evals.benchmarks import reward_bench
from grm_jax.evals.experiments.config import LengthsConfig
from grm_jax.evals.experiments.figures import Figure, Panel, Series
from grm_jax.evals.experiments.findings import Findings, Grid
from grm_jax.evals.experiments.measure import as_json
from grm_jax.evals.intervals import Interval
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.samples import read_samples

SECTIONS = ("Chat", "Chat Hard", "Safety", "Reasoning")

# RewardBench's subsets are shown by section, as in the paper.
SECTION_OF = {
    subset: section for section, subsets in reward_bench.SECTIONS.items() for subset in subsets
}


def run(cfg: LengthsConfig, folder: Path) -> Findings:
    """Reads the files; nothing is sampled."""
    return findings(
        {name: lengths(read_samples(Path(path)), cfg.by) for name, path in cfg.files.items()}
    )


def lengths(samples: Iterable[Sampled | Refusal], by: str) -> dict[str, Interval]:
    """The mean tokens of a judgment by section, with a 95 % interval over rows.

    Raises:
        ValueError: a row has no such entry.
    """
    means: dict[str, list[float]] = {}
    for row in samples:
        if isinstance(row, Refusal) or not row.judgments:
            continue
        if by not in row.example.meta:
            known = ", ".join(row.example.meta) or "none"
            raise ValueError(f"row {row.example.id} has no {by!r} in its meta; there are {known}.")
        mean = float(np.mean([judgment.tokens for judgment in row.judgments]))
        section = str(row.example.meta[by])
        means.setdefault(SECTION_OF.get(section, section or "no ask"), []).append(mean)
    return {section: _interval(means[section]) for section in sorted(means)}


def _interval(values: list[float]) -> Interval:
    """Student's t interval; none for a single row."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) * float(stats.t.ppf(0.975, count - 1))
    return Interval(mean, mean - error, mean + error)


def findings(models: Mapping[str, Mapping[str, Interval]]) -> Findings:
    """The table and the figure of lengths by model and section."""
    sections = list(dict.fromkeys(s for by_section in models.values() for s in by_section))
    xs = {section: float(x) for x, section in enumerate(sections)}
    ours = tuple(
        Series(name, {xs[s]: v for s, v in by_section.items()}, colour)
        for colour, (name, by_section) in enumerate(models.items())
    )
    printed = paper.table("figure7_lengths")
    theirs = tuple(
        Series.plain(row["model"], {i: row[s] for i, s in enumerate(SECTIONS)}, colour)
        for colour, row in enumerate(printed)
        if row["model"].startswith("DeepSeek-GRM")
    )
    lines = [
        [name, *(_tokens(by_section.get(section)) for section in sections)]
        for name, by_section in models.items()
    ]
    return Findings(
        name="lengths",
        title="Length of a critique",
        text=(
            "Mean number of tokens of a judgment, all it wrote, with the 95 % interval over rows.",
            "Ours are the models named; the paper's are DeepSeek-GRM-27B before and after RL, and "
            "DeepSeek-R1, on the sections of RewardBench.",
        ),
        grids=(
            Grid("Ours: tokens", ["model", *sections], lines),
            Grid(
                "The paper's Figure 7: tokens, by section of RewardBench",
                ["model", *SECTIONS],
                [
                    [row["model"], *(f"{row[section]:.0f}" for section in SECTIONS)]
                    for row in printed
                ],
            ),
        ),
        figures=(
            Figure(
                "lengths",
                "Length of a critique: ours (left), the paper's (right)",
                (
                    Panel("ours", "", "tokens", ours, tuple(sections)),
                    Panel("DeepSeek-GRM-27B on RewardBench", "", "tokens", theirs, SECTIONS),
                ),
            ),
        ),
        data={
            "models": {
                name: {section: as_json(value) for section, value in by_section.items()}
                for name, by_section in models.items()
            }
        },
    )


def _tokens(value: Interval | None) -> str:
    if value is None:
        return "–"
    if math.isnan(value.low):
        return f"{value.value:.0f}"
    return f"{value.value:.0f} [{value.low:.0f}, {value.high:.0f}]"
