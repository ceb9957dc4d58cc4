"""`python -m benchmarks.curves`: cost against k, prompt length, number of responses and rows.

Of the sampler (random weights, see `grm bench sampler`) the seconds of one prompt's samples; of the
bundled judge the seconds of a file. Writes curves.json and curves.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grm_jax.bench.config import JudgeBench, SamplerBench
from grm_jax.bench.decode import measure as measure_sampler
from grm_jax.bench.judging import held_out, measure_items
from grm_jax.bench.shapes import shape_of
from grm_jax.bench.timing import Timing
from grm_jax.judging.judge import Judge
from grm_jax.text.messages import Example

ROWS = 16  # of the file whose rows have more and more responses


@dataclass(frozen=True)
class Curve:
    """An axis: what it is called, its values, and what is timed at each."""

    name: str
    values: Sequence[int]
    time: Callable[[int], Timing]


def curves(sampler: SamplerBench, judge: JudgeBench) -> list[Curve]:
    """The four, around the work of these commands."""
    model, bundled = shape_of(sampler.size), Judge.load(judge.model)

    def draw(**changed: int) -> Timing:
        return measure_sampler(model, replace(sampler, **changed)).timing

    def judged(items: Sequence[Example]) -> Timing:
        return measure_items(bundled, items, judge).timing

    return [
        Curve("samples (k)", (1, 2, 4, 8, 16, 32, 64), lambda k: draw(k=k)),
        Curve("prompt tokens", (128, 256, 512, 1024, 2048), lambda prompt: draw(prompt=prompt)),
        Curve("responses", (1, 2, 3, 4), lambda n: judged(with_responses(held_out(ROWS), n))),
        Curve("rows", (1, 4, 16, 64), lambda rows: judged(held_out(rows))),
    ]


def with_responses(items: Sequence[Example], count: int) -> list[Example]:
    """The items with so many responses: their own again and again, each with its number."""
    return [
        Example(
            prompt=item.prompt,
            responses=[f"{item.responses[i % item.n]} ({i})" for i in range(count)],
            id=item.id,
        )
        for item in items
    ]


def follow(curve: Curve) -> list[dict[str, Any]]:
    """A point for each value."""
    points = []
    for value in curve.values:
        timing = curve.time(value)
        points.append({"value": value, "seconds": timing.median, "all": timing.seconds})
        print(f"{curve.name} {value}: {timing.median:.3g} s", file=sys.stderr)
    return points


def draw_figure(told: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel for each axis: cost as a multiple of the first point's, both scales in powers, and
    a dashed line where cost would be in proportion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(told), figsize=(4 * len(told), 3.2), squeeze=False)
    for panel, (name, points) in zip(panels[0], told.items(), strict=True):
        values = [point["value"] for point in points]
        first = points[0]["seconds"]
        cost = [point["seconds"] / first for point in points]
        low = [c - min(p["all"]) / first for c, p in zip(cost, points, strict=True)]
        high = [max(p["all"]) / first - c for c, p in zip(cost, points, strict=True)]
        panel.errorbar(values, cost, yerr=(low, high), marker="o", capsize=2)
        panel.plot(values, [value / values[0] for value in values], "--", color="grey")
        panel.set(xscale="log", yscale="log", xlabel=name, ylabel=f"cost / cost at {values[0]}")
        panel.set_xticks(values, map(str, values))
        panel.minorticks_off()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.curves", description=__doc__)
    parser.add_argument("--output", default="runs/curves", help="a folder")
    parser.add_argument("--size", default="small", choices=("small", "2b", "9b"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    sampler = SamplerBench(size=options.size, repeats=options.repeats)
    judge = JudgeBench(repeats=options.repeats)
    told = {curve.name: follow(curve) for curve in curves(sampler, judge)}
    (folder / "curves.json").write_text(json.dumps(told, indent=1) + "\n")
    draw_figure(told, folder / "curves.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
