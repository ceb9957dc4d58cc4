"""`grm table`: verdicts, or evaluations, as one flat table without any text of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from grm_jax.cli.config import TableCommand
from grm_jax.cli.table_file import has_columns, write_table
from grm_jax.evals.eval_page import judge_name
from grm_jax.evals.report import REPORT, read_report
from grm_jax.outputs import check_file
from grm_jax.paths import expanded

Row = dict[str, Any]

TEXT, WHOLE, NUMBER, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
VERDICTS = pa.schema(
    {
        **{"id": TEXT, "path": TEXT, "line": WHOLE, "digest": TEXT, "status": TEXT},
        **{"responses": WHOLE, "response": WHOLE, "score": NUMBER, "mean_score": NUMBER},
        **{"rank": WHOLE, "best": FLAG, "tied": FLAG, "margin": NUMBER},
        **{"k": WHOLE, "valid": WHOLE, "counted": WHOLE, "degenerate": TEXT},
    }
)
EVALUATIONS = pa.schema(
    {
        **{"folder": TEXT, "benchmark": TEXT, "judge": TEXT, "cell": TEXT, "headline": FLAG},
        **{"vote": TEXT, "k": WHOLE, "k_meta": WHOLE},
        **{"value": NUMBER, "low": NUMBER, "high": NUMBER},
        **{"rows": WHOLE, "unanswered": WHOLE, "partial": FLAG},
    }
)


def run(command: TableCommand) -> int:
    """Writes the table."""
    source = expanded(command.source)
    path = check_file(
        command.output,
        lambda path: has_columns(path, VERDICTS, EVALUATIONS),
        "a table of grm table",
    )
    if source.is_dir():
        count = write_table(path, EVALUATIONS, evaluation_rows(source))
    elif source.is_file():
        count = write_table(path, VERDICTS, verdict_rows(source))
    else:
        raise FileNotFoundError(
            f"there is nothing at {source}: name the file of `grm judge --output`, or the folder "
            "of `grm eval`."
        )
    print(f"{path}: {count} rows.")
    return 0


def verdict_rows(path: Path) -> Iterator[Row]:
    """A row for each response of a file of verdicts, and one for each row without a verdict.

    Raises:
        ValueError: a line is none of `grm judge`; a last one that is still being written is left
            out.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return
            try:
                yield from _responses(json.loads(raw))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                raise ValueError(
                    f"{path}:{number} is no line of `grm judge --output`, nor is it the folder of "
                    "an evaluation: a table is made of these two."
                ) from None


def _responses(line: Row) -> Iterator[Row]:
    """The rows of a line: of a verdict one per response, in their order."""
    shared = {
        "id": str(line["id"]),
        "path": line.get("path"),
        "line": line.get("line"),
        "digest": line.get("digest"),
    }
    if "error" in line:
        yield shared | {"status": "passing" if line.get("passing") else "error"}
        return
    scores, ranking, counted = line["scores"], line["ranking"], line["counted"]
    places = {index: place for place, index in enumerate(ranking, 1)}
    shared |= {"status": "verdict", "responses": len(scores), "margin": line["margin"]}
    shared |= {"k": line["k"], "valid": line["valid"], "counted": counted}
    for index, score in enumerate(scores):
        yield shared | {
            "response": index,
            "score": score,
            "mean_score": line["mean_scores"][index],
            "rank": places[index],
            "best": index == line["best"],
            "tied": index in line["tied"] and len(line["tied"]) > 1,
            "degenerate": line["degenerate"].get(str(index)),
        }


def evaluation_rows(folder: Path) -> Iterator[Row]:
    """A row for each cell of each vote of the evaluation in a folder, or of all below it.

    Raises:
        ValueError: there is none.
    """
    if (folder / REPORT).exists():
        yield from _cells(read_report(folder), folder.resolve().name)
        return
    reports = []
    for path in sorted(folder.rglob(REPORT)):
        try:
            reports.append((read_report(path.parent), str(path.parent.relative_to(folder))))
        except ValueError:  # another command's
            continue
    if not reports:
        raise ValueError(f"{folder} holds no evaluation of `grm eval`.")
    for report, name in reports:
        yield from _cells(report, name)


def _cells(report: Row, folder: str) -> Iterator[Row]:
    """The rows of a report: greedy, Voting and MetaRM at each k, and what MetaRM gains."""
    shared = {
        "folder": folder,
        "benchmark": report["benchmark"],
        "judge": judge_name(report),
        "rows": report["rows"],
        "partial": bool(report["missing"]),
    }
    votes = [("MetaRM" if vote["guided"] else "Voting", vote, report) for vote in report["votes"]]
    if report["greedy"]:
        votes.insert(0, ("greedy", {"k": 1, **report["greedy"]}, report["greedy"]))
    votes += [("gain", vote, report) for vote in report["gains"]]
    for name, vote, counts in votes:
        for cell, interval in vote["cells"].items():
            yield shared | {
                "cell": cell,
                "headline": cell == report["headline"],
                "vote": name,
                "k": vote["k"],
                "k_meta": vote.get("k_meta"),
                **interval,
                "unanswered": counts["lacking"].get(cell, 0),
            }
