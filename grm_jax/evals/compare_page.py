"""The page of a comparison: one file with the differences, and critiques side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from grm_jax.evals.comparison import Comparison, flipped, pairs
from grm_jax.evals.eval_page import TEMPLATES, shown, telling
from grm_jax.evals.report import SAMPLES, known, listed
from grm_jax.evals.template import FILTERS, render, write
from grm_jax.judging.judgment import Refusal

SHOWN = 8  # rows in each direction

Row = dict[str, Any]


def write_page(path: Path, comparison: Comparison, a: Path, b: Path) -> Path:
    """Writes the page of what `compare` found in the folders a and b; returns its path."""
    page = render(
        TEMPLATES / "compare.html",
        FILTERS,
        title=comparison.title,
        names=comparison.names,
        cells=[
            {
                "name": name,
                "values": [known(value) for value in values],
                "difference": known(asdict(difference)),
            }
            for name, (*values, difference) in comparison.cells.items()
        ],
        flips=[
            {"before": before, "after": after, "count": count}
            for (before, after), count in comparison.flips.items()
        ],
        unanswered=comparison.unanswered,
        secret=comparison.secret,
        rows=[] if comparison.secret else _rows(a, b),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, page)


def _rows(a: Path, b: Path) -> list[Row]:
    """The first rows that only the second judge has right, and that only the first has."""
    found: dict[bool, list[Row]] = {True: [], False: []}
    both = listed(a / SAMPLES), listed(b / SAMPLES)
    for (first, second), one, other in zip(pairs(a, b), *both, strict=True):
        better = second["verdict"] == "right"
        if isinstance(one, Refusal) or isinstance(other, Refusal):
            continue
        if not flipped(first, second) or len(found[better]) == SHOWN:
            continue
        found[better].append(
            {
                "better": better,
                "subset": first["subset"],
                "prompt": [{"role": t.role, "content": t.content} for t in one.example.prompt],
                "judgments": [
                    {
                        "verdict": row["verdict"],
                        "scores": row["scores"] and [row["scores"][i] for i in judgment.order],
                        **shown(whole.example, judgment),
                    }
                    for row, whole in ((first, one), (second, other))
                    for judgment in [telling(whole, row["verdict"])]
                ],
            }
        )
    return found[True] + found[False]
