"""Judges of real text: credits, standard errors and position by hand, and a run of the command."""

import json

import numpy as np
import pytest

from grm_jax.cli import main
from grm_jax.evals.experiments import real
from grm_jax.evals.experiments.position import BIAS, BOTH, FIRST, ONE, SECOND, position
from grm_jax.evals.experiments.real_rows import FAULTS, LIKED, SINGLE, estimate, read_rows, worth
from grm_jax.evals.votes import Vote, votes_of
from grm_jax.judging.judgment import Judgment, Refusal, Sampled
from grm_jax.judging.samples import to_json
from grm_jax.text.messages import Example

# Kind, responses, label: a fault, four responses, two single ones, a preference.
ROWS = (
    ("cut", ("whole text.", "cut te"), 0),
    ("cut", ("a", "the good one.", "b", "c"), 1),
    ("off_topic", ("fine.",), 1),
    ("off_topic", ("stray.",), 0),
    ("preference", ("liked.", "less liked."), 0),
)


def examples(rows=ROWS):
    return [
        Example("q", shown, str(i), label=label, meta={"kind": kind, "unit": f"u{i}"})
        for i, (kind, shown, label) in enumerate(rows)
    ]


def judgment(sample, scores, order=None, meta=None):
    order = tuple(range(len(scores or (0, 0)))) if order is None else order
    reason = None if scores else "no_box"
    return Judgment(
        sample, order, "", "", scores, reason, "t", 7, -1.0, meta, counted=scores is not None
    )


def write(path, scores, rows=ROWS):
    """A file of samples; `scores` are those of each judgment of each row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for one, written in zip(examples(rows), scores, strict=True):
        judged = tuple(judgment(i, given, tuple(range(one.n))) for i, given in enumerate(written))
        lines.append(json.dumps(to_json(Sampled(one, judged))) + "\n")
    path.write_text("".join(lines))
    return path


# Two judgments each: right and tied; right and unreadable; right; wrong, open; always wrong.
GOOD = [[(9, 1), (5, 5)], [(1, 9, 1, 1), None], [(1,), (1,)], [(1,), (0,)], [(1, 9), (1, 9)]]
BAD = [[(1, 9)] * 2, [None] * 2, [(0,)] * 2, [(1,)] * 2, [(9, 1)] * 2]


@pytest.fixture
def files(tmp_path):
    return {
        "bad": write(tmp_path / "bad.jsonl", BAD),
        "good": write(tmp_path / "good.jsonl", GOOD),
    }


def test_credits_of_votes_and_baselines(files):
    rows = read_rows(files, votes_of(2), examples())
    assert rows.credits["good", Vote(1)].tolist() == [0.75, 0.5, 1.0, 0.5, 0.0]
    # Sums: 14 to 6; the one that can be read; 1; a half; wrong.
    assert rows.credits["good", Vote(2)].tolist() == [1.0, 1.0, 1.0, 0.5, 0.0]
    assert rows.credits["bad", Vote(2)].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert rows.credits["a guess"].tolist() == [0.5, 0.25, 0.5, 0.5, 0.5]
    assert rows.credits["the longer response"].tolist() == [1.0, 1.0, 0.5, 0.5, 0.0]
    assert {name: part.tolist() for name, part in rows.parts.items()}[FAULTS] == [1, 1, 0, 0, 0]
    assert rows.mean(("good", Vote(1)), rows.parts[SINGLE]).value == 75.0
    assert rows.mean(("good", Vote(1)), rows.parts[LIKED]).value == 0.0
    gain = rows.gain(("good", Vote(1)), ("bad", Vote(1)), rows.parts[FAULTS])
    assert gain.value == 62.5
    assert gain.signed.startswith("+62.5 ± ")
    assert ("good", Vote(2, True)) not in rows.credits  # no meta RM


def test_a_row_that_one_judge_has_no_answer_to_is_in_no_number(tmp_path, files):
    lines = files["good"].read_text().splitlines()
    lines[0] = json.dumps({**Refusal("0", "too long").to_json(), "digest": "d"})
    files["good"].write_text("\n".join(lines) + "\n")
    rows = read_rows(files, votes_of(2), examples())
    assert [one.id for one in rows.examples] == ["1", "2", "3", "4"]
    assert rows.left_out == 1
    assert "1 rows that not all judges" in real.findings(rows, 2).text[0]


def test_standard_errors_draw_the_rows_of_a_prompt_together():
    values = np.array([1.0, 0.0, 1.0, 1.0])
    alone = estimate(values, np.array(list("abcd")))
    assert alone.value == 75.0
    assert alone.error == pytest.approx(100 * values.std(ddof=1) / 2)
    twice = estimate(np.repeat(values, 2), np.repeat(np.array(list("abcd")), 2))
    assert twice == pytest.approx(alone)  # the same rows again are no new ones


def test_an_unreadable_single_response_has_no_credit():
    single = Example("q", ["a"], "s", label=1)
    assert [worth(found, single) for found in (None, (0.0,), (0.5,), (1.0,))] == [0, 0, 0.5, 1]


def test_position_before_and_after_shuffling():
    """A judge that always prefers what it is shown first: right half the time, and two judgments in
    opposite orders cancel out."""
    (one,) = examples((("cut", ("good", "bad"), 0),))
    orders = ((0, 1), (1, 0), (0, 1), (1, 0))
    given = tuple(
        judgment(i, (9, 1) if order[0] == 0 else (1, 9), order) for i, order in enumerate(orders)
    )
    found = {name: value.value for name, value in position([Sampled(one, given)]).items()}
    assert found == {FIRST: 100, SECOND: 0, BIAS: 100, ONE: 50, BOTH: 50}
    # One that sees it right three times of four, whatever the order: shuffling takes nothing away.
    seen = [(9, 1), (9, 1), (9, 1), (1, 9)]
    given = tuple(judgment(i, seen[i], order) for i, order in enumerate(orders))
    found = {name: value.value for name, value in position([Sampled(one, given)]).items()}
    assert found == {FIRST: 100, SECOND: 50, BIAS: 75, ONE: 75, BOTH: 75}


def test_the_command_writes_tables_and_figures(tmp_path, files, capsys):
    data = tmp_path / "heldout.jsonl"
    rows = [
        {"id": str(i), "prompt": "q", "responses": shown, "label": label, "kind": kind}
        for i, (kind, shown, label) in enumerate(ROWS)
    ]
    for path in (data, tmp_path / "train.jsonl"):
        path.write_text("".join(json.dumps({**row, "unit": row["id"]}) + "\n" for row in rows))
    judges = json.dumps({name: {"samples": str(path)} for name, path in files.items()})
    options = ["--models", "[]", "--judges", judges, "--k", "2", "--data", str(data)]
    assert main(["experiment", "real", *options, "--output", str(tmp_path / "out")]) == 0
    assert "By kind of fault" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"data.json", "table.md", "index.html", "scaling.png", "kinds.svg"} <= written
    data = json.loads((tmp_path / "out" / "data.json").read_text())
    assert data["accuracy"]["good, Voting@2"]["faults"]["value"] == 100.0
    assert data["accuracy"]["nine surface features"].keys() >= {"kind cut", "faults", "single"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| good, Voting@1 − bad, Voting@1 | +62.5 ± " in table
    assert "| cut | 2 |" in table


def test_judges_before_the_last_may_have_fewer_samples(tmp_path, files):
    files["bad"] = write(tmp_path / "few.jsonl", [one[:1] for one in BAD])
    found = real.findings(read_rows(files, votes_of(2), examples()), 2)
    names = [row[0] for row in found.grids[0].rows]
    assert names[-3:] == ["bad, Voting@1", "good, Voting@1", "good, Voting@2"]
    differences = [row[0] for row in found.grids[1].rows]
    assert "good, Voting@2 − good, Voting@1" in differences
    assert "bad, Voting@2 − bad, Voting@1" not in differences


def test_rows_of_a_benchmark_are_refused(capsys):
    assert main(["experiment", "real", "--benchmark", "realmistake"]) == 2
    assert "give data, a file of rows that `grm data real` has made" in capsys.readouterr().err
