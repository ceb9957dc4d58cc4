"""RewardBench's result files, in the format that its leaderboard reads.

`eval-set/MODEL.json` has the share of right answers in each subset (0 to 1), and
`eval-set-scores/MODEL.json` a list for each column of the rows. For the Prior Sets the folders are
`pref-sets` and `pref-sets-scores` (allenai/reward-bench, scripts/run_generative.py and run_rm.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from grm_jax.evals.benchmark import Benchmark
from grm_jax.evals.eval_page import judge_name
from grm_jax.evals.page_parts import turns
from grm_jax.evals.report import SAMPLES, read_rows
from grm_jax.judging.judgment import Sampled
from grm_jax.judging.samples import read_samples

SUBMISSIONS = {"rewardbench": "eval-set", "prior-sets": "pref-sets"}


def write_submission(benchmark: Benchmark, folder: Path, report: Mapping[str, Any]) -> list[Path]:
    """Writes both files under `folder`/results, for the report's last vote, one row at a time.

    Returns:
        The two files.
    """
    kind, model = SUBMISSIONS[benchmark.name], _name(report)
    named = {
        "model": model,
        "model_type": "Seq. Classifier" if report["scalar"] else "Generative RM",
        "chat_template": None,
    }
    cells = report["votes"][-1]["cells"]
    shares = {
        subset: cells[subset]["value"] / 100
        for subset in benchmark.full
        if cells[subset]["value"] is not None
    }
    summary = folder / "results" / kind / f"{model}.json"
    summary.parent.mkdir(parents=True, exist_ok=True)
    summary.write_text(json.dumps(named | shares, indent=4, sort_keys=True), encoding="utf-8")
    scores = folder / "results" / f"{kind}-scores" / f"{model}.json"
    scores.parent.mkdir(parents=True, exist_ok=True)
    with scores.open("w", encoding="utf-8", errors="replace") as file:
        file.write("{\n")
        for name, values in _columns(folder).items():
            file.write(f"    {json.dumps(name)}: [\n")
            for place, value in enumerate(values()):
                file.write("        " if place == 0 else ",\n        ")
                file.write(json.dumps(value, ensure_ascii=False))
            file.write("\n    ],\n")
        file.write(json.dumps(named, indent=4)[2:] + "\n")
    return [summary, scores]


def _name(report: Mapping[str, Any]) -> str:
    """OWNER/MODEL, or the end of a path; it never leads out of the folder."""
    parts = PurePath(judge_name(report)).parts
    return "/".join([part for part in parts if part not in ("/", ".", "..")][-2:])


def _columns(folder: Path) -> dict[str, Callable[[], Iterator[Any]]]:
    """The values of each column, each read in a pass of its own: texts need not fit into memory."""

    def of_rows(read: Callable[[dict[str, Any]], Any]) -> Callable[[], Iterator[Any]]:
        return lambda: map(read, read_rows(folder))

    return {
        "id": of_rows(lambda row: row["id"]),
        "subset": of_rows(lambda row: row["subset"]),
        "results": of_rows(lambda row: row["value"][0]),
        "scores_chosen": of_rows(lambda row: row["scores"] and row["scores"][row["label"]]),
        "scores_rejected": of_rows(lambda row: row["scores"] and row["scores"][1 - row["label"]]),
        "text_chosen": lambda: _texts(folder, chosen=True),
        "text_rejected": lambda: _texts(folder, chosen=False),
    }


def _texts(folder: Path, *, chosen: bool) -> Iterator[list[dict[str, str]]]:
    """Each row's conversation, with the chosen or the rejected response."""
    for row in read_samples(folder / SAMPLES):
        if isinstance(row, Sampled):
            example = row.example
            best = example.label or 0
            answer = example.responses[best if chosen else 1 - best]
            yield [*turns(example), {"role": "assistant", "content": answer}]
