"""The numbers that the paper prints (arXiv 2504.02495v3), and its Overall.

`assets/paper/*.csv` holds a table or figure each, named tableNN_... and figureN_... after it. Its
totals follow from its cells by the same functions that sum up an evaluation here, except in a few
rows in which the paper disagrees with itself (tests/evals/test_paper.py lists them).
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

# The paper's columns under the names that benchmarks and their cells have here.
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
    """The rows of a table, such as "table08_rewardbench": numbers as float, what is not there as
    None, and the columns under the names that our cells have.

    Raises:
        ValueError: no such table, with the names of those that there are.
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
