"""Judges of real text on the held-out rows of `grm data real`, beside what needs no reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from grm_jax.evals.experiments.config import RealConfig, named_judges
from grm_jax.evals.experiments.figures import Figure, Panel, Series
from grm_jax.evals.experiments.findings import NONE, Findings, Grid
from grm_jax.evals.experiments.position import COLUMNS, position
from grm_jax.evals.experiments.real_rows import (
    FAULTS,
    LIKED,
    SINGLE,
    Arm,
    Estimate,
    RealRows,
    read_rows,
    train_rows,
)
from grm_jax.evals.experiments.setting import benchmark_of, sample
from grm_jax.evals.intervals import Interval
from grm_jax.evals.votes import Vote, doublings, votes_of

Voted = tuple[str, Vote]
BASELINES = ("a guess", "the longer response", "nine surface features")
BAND = 1.96  # standard errors of 95 %


def run(cfg: RealConfig, folder: Path) -> Findings:
    """Judges every row k times with every judge, and measures."""
    benchmark, judges = benchmark_of(cfg), named_judges(cfg)
    before = replace(cfg, k=cfg.k_before or cfg.k)
    files = {
        name: sample(
            cfg if name == [*judges][-1] else before, benchmark, folder / name, judge, training=True
        )
        for name, judge in judges.items()
    }
    train = cfg.train or Path(str(cfg.data)).with_name("train.jsonl")
    rows = read_rows(files, votes_of(cfg.k), train_rows(train))
    return findings(rows, cfg.k)


def findings(rows: RealRows, k: int) -> Findings:
    """The tables and figures."""
    judges = [*rows.judged]
    left = f" {rows.left_out} rows that not all judges had an answer to are left out." * (
        rows.left_out > 0
    )
    return Findings(
        name="real",
        title="Judges of real text",
        text=(
            f"{len(rows.examples)} held-out rows, at most {k} judgments of each by every judge; "
            "every smaller k is drawn from these, over disjoint groups. Percent right, a tie among "
            "m counted 1/m, a judgment that cannot be read as wrong; ± one standard error, of rows "
            f"that come in prompts.{left}",
            "The label of a fault is sure, since a rule passes the good response and fails the "
            "others; a preference is what raters liked. A single response is judged right or "
            "wrong. Beside the judges stand what needs no reading: the longer response, and a "
            "logistic regression on nine features of the surface, fitted on the train rows (of a "
            "single response they say nothing, which is counted as a guess).",
        ),
        grids=(
            _accuracy(rows, judges),
            _paired(rows, judges, k),
            _kinds(rows, judges, k),
            _position(rows, judges),
            _written(rows, judges),
        ),
        figures=(_scaling(rows, judges, k), _by_kind(rows, judges)),
        data=_data(rows, judges),
    )


def _arms(rows: RealRows, judge: str) -> list[Voted]:
    return [arm for arm in rows.credits if not isinstance(arm, str) and arm[0] == judge]


def _name(arm: Arm) -> str:
    return arm if isinstance(arm, str) else f"{arm[0]}, {arm[1].label}"


def _shown(value: Estimate | None) -> str:
    return NONE if value is None else str(value)


def _accuracy(rows: RealRows, judges: Sequence[str]) -> Grid:
    parts = rows.parts
    lines = [
        [_name(arm), *(_shown(rows.mean(arm, part)) for part in parts.values())]
        for arm in [*BASELINES, *(arm for judge in judges for arm in _arms(rows, judge))]
    ]
    lines.insert(0, ["rows", *(f"{part.sum():,}" for part in parts.values())])
    names = {FAULTS: "faults, 2 or 4 responses", LIKED: "preferences of raters"}
    return Grid(
        "Accuracy, percent ± standard error",
        ["judge", *(names.get(part, part) for part in parts)],
        lines,
    )


def _paired(rows: RealRows, judges: Sequence[str], k: int) -> Grid:
    """Each judge against the one before, each vote against a single sample, the last one against
    the baselines."""
    one, last = Vote(1), judges[-1]
    best = (last, Vote(k))
    guided, found = (last, Vote(k, True)), rows.credits
    asked: list[tuple[Arm, Arm]] = [((b, one), (a, one)) for a, b in pairwise(judges)]
    if len(judges) > 2:
        asked.append(((last, one), (judges[0], one)))
    if k > 1:
        asked += [((judge, Vote(k)), (judge, one)) for judge in judges if (judge, Vote(k)) in found]
    if guided in found:
        asked.append((guided, best))
        best = guided
    asked += [(best, name) for name in BASELINES[1:]]
    lines = []
    for arm, other in asked:
        gains = (rows.gain(arm, other, part) for part in rows.parts.values())
        cells = [NONE if gain is None else gain.signed for gain in gains]
        lines.append([f"{_name(arm)} − {_name(other)}", *cells])
    return Grid("Differences, paired by row", ["", *rows.parts], lines)


def _kinds(rows: RealRows, judges: Sequence[str], k: int) -> Grid:
    arms: list[Arm] = [*BASELINES, *((judge, Vote(1)) for judge in judges)]
    arms += [arm for arm in _arms(rows, judges[-1]) if arm[1].k == k > 1]
    lines = [
        [kind, f"{part.sum():,}", *(_shown(rows.mean(arm, part)) for arm in arms)]
        for kind, part in rows.kinds.items()
        if part.any()
    ]
    return Grid(
        "By kind of fault, rows with two or more responses",
        ["kind", "rows", *map(_name, arms)],
        lines,
    )


def _position(rows: RealRows, judges: Sequence[str]) -> Grid:
    lines = []
    for judge in judges:
        found = position(rows.judged[judge])
        lines.append([judge, *(_shown(found[column]) for column in COLUMNS)])
    return Grid(
        "Position, pairs: single judgments by the order in which they saw the two; and two "
        "judgments summed, without and with shuffling",
        ["judge", *COLUMNS],
        lines,
    )


def _written(rows: RealRows, judges: Sequence[str]) -> Grid:
    lines = []
    for judge in judges:
        written = [one for row in rows.judged[judge] for one in row.judgments]
        read = sum(one.scores is not None for one in written) / len(written)
        tokens = sum(one.tokens for one in written) / len(written)
        lines.append([judge, f"{len(written):,}", f"{100 * read:.1f}", f"{tokens:.0f}"])
    return Grid("What was written", ["judge", "judgments", "can be read, %", "tokens each"], lines)


def _interval(value: Estimate) -> Interval:
    reach = BAND * value.error
    return Interval(value.value, max(value.value - reach, 0), min(value.value + reach, 100))


def _scaling(rows: RealRows, judges: Sequence[str], k: int) -> Figure:
    panels = []
    for part, title in ((FAULTS, "faults, two or four responses"), (SINGLE, "single responses")):
        chosen = rows.parts[part]
        if not chosen.any():
            continue
        series = [
            line
            for colour, judge in enumerate(judges)
            for guided in (False, True)
            if (line := _line(rows, judge, guided, chosen, colour)) is not None
        ]
        for colour, name in enumerate(BASELINES[1:], len(judges)):
            flat = rows.mean(name, chosen)
            assert flat is not None  # there are rows
            points = {float(n): flat.value for n in doublings(k)}
            if part == FAULTS:  # of single responses they say nothing
                series.append(Series.plain(name, points, colour, dashed=True))
        panels.append(Panel(title, "samples per row, k", "accuracy, %", tuple(series)))
    return Figure("scaling", "More samples of a judge of real text", tuple(panels))


def _line(rows: RealRows, judge: str, guided: bool, chosen: Any, colour: int) -> Series | None:
    arms = [arm for arm in _arms(rows, judge) if arm[1].guided == guided]
    points = {float(vote.k): rows.mean((judge, vote), chosen) for _, vote in arms}
    known = {x: _interval(value) for x, value in points.items() if value is not None}
    label = f"{judge}, {'MetaRM' if guided else 'Voting'}"
    return Series(label, known, colour, guided) if known else None


def _by_kind(rows: RealRows, judges: Sequence[str]) -> Figure:
    kinds = {kind: part for kind, part in rows.kinds.items() if part.any()}
    series = []
    for colour, judge in enumerate(judges):
        values = [rows.mean((judge, Vote(1)), part) for part in kinds.values()]
        points = {float(x): _interval(v) for x, v in enumerate(values) if v is not None}
        series.append(Series(f"{judge}, k = 1", points, colour))
    values = [rows.mean(BASELINES[-1], part) for part in kinds.values()]
    flat = {float(x): v.value for x, v in enumerate(values) if v is not None}
    series.append(Series.plain(BASELINES[-1], flat, len(judges)))
    panel = Panel("rows with two or more responses", "", "accuracy, %", tuple(series), tuple(kinds))
    return Figure("kinds", "By kind of fault", (panel,), width=max(4.3, 0.45 * len(kinds)))


def _data(rows: RealRows, judges: Iterable[str]) -> dict[str, Any]:
    where = {**rows.parts, **{f"kind {kind}": part for kind, part in rows.kinds.items()}}
    return {
        "rows": len(rows.examples),
        "left_out": rows.left_out,
        "counts": {name: int(part.sum()) for name, part in where.items()},
        "accuracy": {
            _name(arm): {
                name: value._asdict()
                for name, part in where.items()
                if (value := rows.mean(arm, part)) is not None
            }
            for arm in rows.credits
        },
        "position": {
            judge: {
                name: None if value is None else value._asdict()
                for name, value in position(rows.judged[judge]).items()
            }
            for judge in judges
        },
    }
