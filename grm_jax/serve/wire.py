"""Verdicts as JSON and back, with nothing lost: what a client gets is what `Judge` gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from grm_jax.judging.judgment import Judgment, Verdict
from grm_jax.judging.samples import criteria_from_json

_JUDGMENT = tuple(f.name for f in dataclasses.fields(Judgment) if f.name != "criteria")
_VERDICT = tuple(field.name for field in dataclasses.fields(Verdict))


def judgment_to_json(judgment: Judgment) -> dict[str, Any]:
    """All fields of a judgment, its text as well."""
    row = {name: getattr(judgment, name) for name in _JUDGMENT}
    return row if judgment.criteria is None else row | {"criteria": judgment.criteria}


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """All fields of a verdict and of its judgments, and what follows from them."""
    row = {name: getattr(verdict, name) for name in _VERDICT}
    row["degenerate"] = {str(index): why for index, why in verdict.degenerate.items()}
    row["judgments"] = [judgment_to_json(judgment) for judgment in verdict.judgments]
    row["mean_scores"], row["counted"] = verdict.mean_scores, verdict.counted
    row["invalid_reasons"] = verdict.invalid_reasons
    return row | ({"criteria": verdict.criteria} if verdict.criteria else {})


def judgment_from_json(row: Mapping[str, Any]) -> Judgment:
    """The inverse of `judgment_to_json`; fields that it does not know are left out.

    Raises:
        KeyError, TypeError: a field is missing or is something else.
    """
    values = {name: row[name] for name in _JUDGMENT}
    values["order"] = tuple(row["order"])
    values["scores"] = None if row["scores"] is None else tuple(row["scores"])
    values["criteria"] = criteria_from_json(row.get("criteria"))
    return Judgment(**values)


def verdict_from_json(row: Mapping[str, Any]) -> Verdict:
    """The inverse of `verdict_to_json`; fields that it does not know are left out.

    Raises:
        KeyError, TypeError: a field is missing or is something else.
    """
    values = {name: row[name] for name in _VERDICT}
    for name in ("scores", "ranking", "tied"):
        values[name] = tuple(row[name])
    values["degenerate"] = {int(index): why for index, why in row["degenerate"].items()}
    values["judgments"] = tuple(map(judgment_from_json, row["judgments"]))
    return Verdict(**values)
