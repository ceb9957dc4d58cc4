"""Whose principles a critique applies (Tables 1 and 14): none, own, filtered, another model's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from grm_jax.data.sources import BadRow
from grm_jax.evals import paper
from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.experiments.arms import Arm, arms_json, arms_panel, compare, paper_grid
from grm_jax.evals.experiments.config import PrinciplesConfig, named_judges
from grm_jax.evals.experiments.figures import Figure
from grm_jax.evals.experiments.findings import Findings
from grm_jax.evals.experiments.measure import measure
from grm_jax.evals.experiments.setting import benchmark_of, check_shows, sample, templates_of
from grm_jax.evals.votes import Vote
from grm_jax.judging.judgment import Refusal, Sampled
from grm_jax.judging.reward import is_correct
from grm_jax.judging.samples import read_samples
from grm_jax.text.messages import Example
from grm_jax.text.prompts import without_principles


def run(cfg: PrinciplesConfig, folder: Path) -> Findings:
    """Samples every model's own judgments, and then judges with the principles in them."""
    judges, benchmark = named_judges(cfg), benchmark_of(cfg)
    check_shows(judges, "principles")
    own = {
        name: sample(cfg, benchmark, folder / f"{name}-self", judge)
        for name, judge in judges.items()
    }
    written = {name: principles_of(read_samples(path)) for name, path in own.items()}
    groups = []
    for name, judge in judges.items():
        bare = replace(judge, templates=str(without_principles(templates_of(judge))))
        paths = {
            "none": sample(cfg, benchmark, folder / f"{name}-none", bare),
            "self-generated": own[name],
        }
        given = {"filtered": written[name].filtered}
        given |= {
            f"{other}-generated": principles.first
            for other, principles in written.items()
            if other != name
        }
        for kind, principles in given.items():
            shown = shown_with(benchmark, principles)
            paths[kind] = sample(cfg, shown, folder / f"{name}-{kind}", judge)
        groups.append(
            [
                Arm(f"{name}, {kind}", measure(name, benchmark, path, [Vote(1)]), Vote(1))
                for kind, path in paths.items()
            ]
        )
    return findings(groups)


def findings(groups: list[list[Arm]]) -> Findings:
    """A table per model, whose first arm has no principles, and one figure."""
    title = groups[0][0].measured.title
    return Findings(
        name="principles",
        title="Whose principles",
        text=(
            "One sample per item: without principles, with principles that the model writes "
            "itself, with principles of one of its judgments that was right (so chosen by the "
            "label), and with principles that another model wrote.",
            f"Ours are small models on {title}; the paper's are GPT-4o, Gemma-2-27B-it and "
            "DeepSeek-GRM-27B on RewardBench's Chat Hard and PPE's IFEval.",
        ),
        grids=(
            *(compare(f"Ours: {title}", group) for group in groups),
            paper_grid(
                "The paper's Table 1",
                paper.table("table01_principles"),
                ["model", "principles"],
                ["Chat Hard", "IFEval"],
            ),
            paper_grid(
                "The paper's Table 14",
                paper.table("table14_principle_transfer"),
                ["model", "principles"],
                ["Chat Hard", "IFEval"],
            ),
        ),
        figures=(
            Figure(
                "principles",
                f"Whose principles: {title}",
                (arms_panel(title, [arm for group in groups for arm in group]),),
            ),
        ),
        data={"benchmark": title, "arms": [arms_json(group) for group in groups]},
    )


class Principles(NamedTuple):
    """By id, the principles of the first judgment with scores and principles, and those of the
    first right one among them (if there is none, of the first again)."""

    first: dict[str, str]
    filtered: dict[str, str]


def principles_of(samples: Iterable[Sampled | Refusal]) -> Principles:
    """The principles that a model wrote."""
    result = Principles({}, {})
    for row in samples:
        if isinstance(row, Refusal):
            continue
        example = row.example
        written = [j for j in row.judgments if j.scores and j.principles]
        right = [j for j in written if is_correct(j.scores, example.label or 0)]
        if written:
            result.first[example.id] = written[0].principles
            result.filtered[example.id] = (right or written)[0].principles
    return result


def shown_with(benchmark: Benchmark, principles: Mapping[str, str]) -> Benchmark:
    """The benchmark with principles, by id, in the prompts of its rows; for a row without any, the
    model writes its own."""

    def read(data: str | None) -> Iterator[Example | BadRow]:
        for row in benchmark.read(data):
            if isinstance(row, Example):
                row = replace(row, principles=principles.get(row.id))
            yield row

    return replace(benchmark, read=read)
