"""The page of a comparison: one file with the differences, and critiques side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from grm_jax.evals.comparison import Comparison, pairs
from grm_jax.evals.page_parts import TEMPLATES, shown, turns, typical
from grm_jax.evals.report import SAMPLES, judged_lines, parse
from grm_jax.evals.template import FILTERS, render, write
from grm_jax.judging.judgment import Sampled
from grm_jax.text.json_line import plain

SHOWN = 8  # rows in each direction

Row = dict[str, Any]


def write_page(path: Path, comparison: Comparison, a: Path, b: Path) -> Path:
    """Writes the page of a comparison of the folders a and b; returns its path."""
    page = render(
        TEMPLATES / "compare.html",
        FILTERS,
        title=comparison.title,
        names=comparison.names,
        cells=[
            {
                "name": name,
                "values": [plain(value) for value in values],
                "difference": plain(asdict(difference)),
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
    """The first rows that only the second judge has right, and those that only the first has."""
    rows: dict[bool, list[Row]] = {True: [], False: []}
    both = judged_lines(a / SAMPLES), judged_lines(b / SAMPLES)
    for first, second in pairs(a, b):
        verdicts = first["verdict"], second["verdict"]
        lines = [next(file) for v, file in zip(verdicts, both, strict=True) if v != "unanswered"]
        better = verdicts[1] == "right"
        flipped = (verdicts[0] == "right") != better
        if "unanswered" in verdicts or not flipped or len(rows[better]) == SHOWN:
            continue
        sampled = [parse(line) for line in lines]
        rows[better].append(
            {
                "better": better,
                "subset": first["subset"],
                "prompt": turns(sampled[0].example),
                "judgments": [*map(_judgment, (first, second), sampled)],
            }
        )
    return rows[True] + rows[False]


def _judgment(row: Row, sampled: Sampled) -> Row:
    """One judgment of a row, and its mean scores in the order in which that judge saw them."""
    judgment, scores = typical(sampled, row["verdict"]), row["scores"]
    return {
        "verdict": row["verdict"],
        "scores": scores and [scores[i] for i in judgment.order],
        **shown(sampled.example, judgment),
    }
