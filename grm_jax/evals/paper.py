"""The numbers in the paper (arXiv 2504.02495v3), and its Overall.

Each file in `assets/paper` is a table or figure of the paper, named tableNN_... or figureN_...
Their totals follow from their cells by the functions that sum up our evaluations, except in a few
rows where the paper contradicts itself (tests/evals/test_paper.py lists them).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from grm_jax.evals.benchmarks import PAPER
from grm_jax.evals.benchmarks.averages import mean_of

Row = Mapping[str, Any]

# The paper's columns, under the names of our benchmarks and cells.
NAMES = {
    "reward_bench": "RewardBench",
    "ppe_pref": "PPE Preference",
    "ppe_correct": "PPE Correctness",
    "ppe_correctness": "PPE Correctness",
    "rmb": "RMB",
    "overall": "Overall",
    "chat": "Chat",
    "chat_hard": "Chat Hard",
    "safety": "Safety",
    "reasoning": "Reasoning",
    "prior_sets": "Prior Sets",
    "mmlu_pro": "MMLU-Pro",
    "math": "MATH",
    "gpqa": "GPQA",
    "ifeval": "IFEval",
    "mbpp_plus": "MBPP-Plus",
    "help_bon": "Helpfulness, best of n",
    "help_pair": "Helpfulness, pairs",
    "harm_bon": "Harmlessness, best of n",
    "harm_pair": "Harmlessness, pairs",
}


@cache
def table(name: str) -> tuple[Row, ...]:
    """The rows of a table, such as "table08_rewardbench": numbers are floats, empty cells None, and
    columns have the names of our cells.

    Raises:
        ValueError: no such table; the message lists those that there are.
    """
    folder = files("grm_jax") / "assets" / "paper"
    names = sorted(file.name.removesuffix(".csv") for file in folder.iterdir())
    if name not in names:
        raise ValueError(f"the paper's {name} is not here: give one of {', '.join(names)}")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return tuple(
            {NAMES.get(column, column): _cell(text) for column, text in row.items()}
            for row in csv.DictReader(file)
        )


def overall(cells: Mapping[str, float]) -> float:
    """The unweighted mean of RewardBench, PPE Preference, PPE Correctness and RMB."""
    return mean_of(cells, (benchmark.headline for benchmark in PAPER))


def _cell(text: str) -> str | float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text.strip()
