"""`grm eval` on the small world: the numbers are those of the judgments, and the same twice."""

import json
from pathlib import Path

from grm_jax.cli import main
from grm_jax.judging.reward import is_correct


def test_report_counts_what_the_judge_said(tmp_path: Path, capsys) -> None:
    options = ["--limit", "12", "--k", "2", "--rows", "8"]
    assert main(["eval", *options, "--output", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert "Voting@2" in shown
    assert "12 items, 24 samples" in shown
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["voting"]["strict"]["1"]["count"] == 12
    assert main(["eval", *options, "--output", str(tmp_path / "b")]) == 0
    assert json.loads((tmp_path / "b" / "report.json").read_text()) == report


def test_accuracy_of_a_file_by_hand(tmp_path: Path) -> None:
    """The report's Voting@2 is what the verdicts of `grm judge` on the same rows and seed give."""
    rows = [
        {"id": f"{a}", "prompt": f"What is {a}+{b}?", "responses": [str(a + b), wrong], "label": 0}
        for a, b, wrong in ((61, 21, "81"), (39, 88, "137"), (75, 18, "94"), (20, 35, "45"))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "verdicts.jsonl"
    same = ["--k", "2", "--rows", "8", "--strategy.temperature", "1.0"]
    assert main(["judge", *same, "--input", str(path), "--output", str(output)]) == 0
    assert main(["eval", *same, "--data", str(path), "--output", str(tmp_path / "report")]) == 0
    verdicts = [json.loads(line) for line in output.read_text().splitlines()]
    by_hand = sum(is_correct(verdict["scores"], 0) for verdict in verdicts) / len(rows)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["voting"]["strict"]["2"]["mean"] == by_hand
