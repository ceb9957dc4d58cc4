"""Reports on the terminal: the cells of an evaluation, and Overall beside the paper's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from grm_jax.evals.benchmark import rows_had
from grm_jax.evals.eval_page import judge_name
from grm_jax.evals.paper import overall, table

Row = Mapping[str, Any]


def show_report(report: Row) -> None:
    """Prints the headline of every vote, all cells of the last one, and counts."""
    console = Console()
    console.print(_headline(report))
    last = report["votes"][-1]
    if len(last["cells"]) > 1:
        columns = ([("greedy", report["greedy"]["cells"])] if report["greedy"] else []) + [
            (last["label"], last["cells"])
        ]
        cells = Table("", *(name for name, _ in columns), title="every cell", title_justify="left")
        for name in last["cells"]:
            lacking = report["lacking"].get(name)
            label = f"{name} (lacks {lacking})" if lacking else name
            cells.add_row(label, *(shown(column[name]) for _, column in columns))
        console.print(cells)
    samples = report["samples"]
    invalid = [f"{count} {reason}" for reason, count in samples["invalid"].items()]
    console.print(
        f"{report['rows']} rows, {samples['judgments']} judgments, {samples['mean_tokens']:.0f} "
        f"tokens each; without scores: {', '.join(invalid) or 'none'}. In brackets: 95 % intervals."
    )
    for part, name in ((report, ""), (report["greedy"] or {}, "greedy: ")):
        if unanswered := part.get("unanswered_rows"):
            console.print(
                f"Incomplete: {name}{rows_had(unanswered)} no answer, which is neither right nor "
                f"wrong. The first: {part['unanswered'][0]['error']}",
                markup=False,
            )
    if left_out := sum(report["left_out"].values()):
        console.print(
            f"{left_out} rows were not judged, as the official script leaves them out. The first: "
            f"{report['why_left_out']}",
            markup=False,
        )
    if unread := report["unread_rows"]:
        console.print(f"{unread} rows could not be read; see report.json.", markup=False)


def show_paper(reports: Mapping[str, Row]) -> dict[str, Any]:
    """Prints the four benchmarks and Overall of this judge above the paper's rows; returns this
    judge's rows. Where a benchmark is partial or incomplete, so is Overall."""
    some = next(iter(reports.values()))
    partial = [name for name, report in reports.items() if report["missing"]]
    incomplete = [name for name, report in reports.items() if report["unanswered_rows"]]
    votes = [vote["label"] for vote in some["votes"]]
    rows = []
    for label in (["greedy"] if all(r["greedy"] for r in reports.values()) else []) + votes:
        cells = {name: _value(report, label) for name, report in reports.items()}
        known = {name: value for name, value in cells.items() if value is not None}
        total = overall(known) if len(known) == len(cells) else None
        rows.append({"judge": f"{judge_name(some)}, {label}", "cells": cells | {"Overall": total}})
    columns = [*reports, "Overall"]
    notes = [f"incomplete: {', '.join(incomplete)} not all answered"] * bool(incomplete)
    notes += [f"partial: {', '.join(partial)} not whole"] * bool(partial)
    title = f"Overall ({'; '.join(notes)})" if notes else "Overall"
    shown_table = Table(Column(no_wrap=True), *columns, title=title, title_justify="left")
    for row in rows:
        shown_table.add_row(row["judge"], *_numbers([row["cells"][name] for name in columns]))
    for group, lines in groupby(table("table02_main"), key=itemgetter("group")):
        shown_table.add_section()
        shown_table.add_row(f"[dim]paper, {group}")
        for row in lines:
            shown_table.add_row(row["model"], *_numbers([row.get(name) for name in columns]))
    Console().print(shown_table)
    return {"title": title, "partial": partial, "incomplete": incomplete, "rows": rows}


def shown(cell: Row | None, sign: bool = False) -> str:
    """71.2 [68.1, 74.0], or a dash; with signs for a difference."""
    if cell is None or cell["value"] is None:
        return "–"
    number = "+.1f" if sign else ".1f"
    if cell["low"] is None:
        return f"{cell['value']:{number}}"
    # A bracket would be markup.
    return f"{cell['value']:{number}} \\[{cell['low']:{number}}, {cell['high']:{number}}]"


def _headline(report: Row) -> Table:
    name, gains = report["headline"], {vote["k"]: vote for vote in report["gains"]}
    headline = Table("", name, *(["gain"] if gains else []), title=report["title"])
    headline.title_justify = "left"
    if report["greedy"]:
        headline.add_row("greedy", shown(report["greedy"]["cells"][name]))
    for vote in report["votes"]:
        gain = gains.get(vote["k"]) if vote["guided"] else None
        cells = [shown(vote["cells"][name])] + ([shown(gain["cells"][name], True)] if gain else [])
        headline.add_row(vote["label"], *cells)
    return headline


def _value(report: Row, label: str) -> float | None:
    cells = (
        report["greedy"]["cells"]
        if label == "greedy"
        else next(vote["cells"] for vote in report["votes"] if vote["label"] == label)
    )
    return cells[report["headline"]]["value"]


def _numbers(values: Sequence[float | None]) -> list[str]:
    return ["–" if value is None else f"{value:.1f}" for value in values]
