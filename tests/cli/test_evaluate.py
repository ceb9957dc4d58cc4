"""`grm eval` and `grm compare` on the small world, and the benchmarks with a random model."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from grm_jax.cli import main
from grm_jax.evals.benchmark import credit


def read(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_report_counts_what_the_judge_said(tmp_path: Path, capsys) -> None:
    options = ["--limit", "12", "--k", "2", "--slots", "8"]
    a, b = tmp_path / "a", tmp_path / "b"
    assert main(["eval", *options, "--output", str(a)]) == 0
    shown = capsys.readouterr().out
    assert "The small world (partial: 12 of 2000 rows)" in " ".join(shown.split())
    assert "Voting@2" in shown
    assert "greedy" in shown
    assert "12 rows, 24 judgments" in shown
    # The same again leaves the judgments alone, and gives the same report.
    before = {path.name: path.read_bytes() for path in a.iterdir()}
    assert main(["eval", *options, "--output", str(a)]) == 0
    assert {path.name: path.read_bytes() for path in a.iterdir()} == before
    assert len(before) == 6  # samples, greedy, report, rows, page, settings
    # Its samples in the place of the model: another evaluation, with the same verdicts.
    saved = ["--samples", str(a / "samples.jsonl"), "--output", str(b)]
    assert main(["eval", *options, *saved]) == 0
    assert read(b)["votes"] == read(a)["votes"]
    assert read(b)["greedy"] is None
    capsys.readouterr()
    assert main(["compare", str(a), str(b)]) == 0
    assert "No verdict on a row has changed." in capsys.readouterr().out
    assert (b / "compare-with-a.html").exists()
    # Other settings do not mix with what is there.
    assert main(["eval", *options, "--seed", "1", "--output", str(a)]) == 2
    assert "seed was 0 and is now 1" in capsys.readouterr().err
    assert main(["eval", "--limit", "6", "--k", "2", *saved[:2], "--output", f"{b}2"]) == 0
    assert main(["compare", str(a), f"{b}2"]) == 2
    assert "says nothing of the other" in capsys.readouterr().err


def test_accuracy_of_a_file_by_hand(tmp_path: Path) -> None:
    """The report's Voting@2 is what the verdicts of `grm judge` on the same rows and seed give."""
    rows = [
        {"id": f"{a}", "prompt": f"What is {a}+{b}?", "responses": [str(a + b), wrong], "label": 0}
        for a, b, wrong in ((61, 21, "81"), (39, 88, "137"), (75, 18, "94"), (20, 35, "45"))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "verdicts.jsonl"
    same = ["--k", "2", "--slots", "8", "--strategy.temperature", "1.0"]
    assert main(["judge", *same, "--input", str(path), "--output", str(output)]) == 0
    assert main(["eval", *same, "--data", str(path), "--output", str(tmp_path / "report")]) == 0
    verdicts = [json.loads(line) for line in output.read_text().splitlines()]
    by_hand = 100 * sum(credit(v.get("scores"), 0) for v in verdicts) / len(rows)
    report = read(tmp_path / "report")
    assert report["title"] == str(path)
    assert report["votes"][-1]["label"] == "Voting@2"
    assert report["votes"][-1]["cells"]["accuracy"]["value"] == by_hand


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--benchmark", "rewardbanch"], "there is no benchmark 'rewardbanch'"),
        (["--k", "0"], "k is 0; both must be at least 1"),
        (["--k_meta", "2"], "give 1 to k, and a --meta-rm"),
        (["--input", "pair", "--meta-rm", "tiny-meta"], "leave out --meta-rm or --input pair"),
        (["--benchmark", "paper"], "RMB"),
        (["--benchmark", "realmistake"], "data.zip"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, capsys, options, told) -> None:
    try:
        status = main(["eval", *options, "--output", str(tmp_path / "o")])
    except SystemExit as error:  # the command line's own
        status = error.code
    assert status == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "o" / "samples.jsonl").exists()


class Choosy(BaseHTTPRequestHandler):
    """A server that prefers the first response, and refuses rows with the word "forbidden"."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "forbidden" in body:
            status, told = 403, {"error": {"message": "not for you"}}
        else:
            message = {"role": "assistant", "content": "Analysis: a\nScores: \\boxed{9, 2}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            told = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
            status, told = 200, told | {"choices": [choice]}
        sent = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Options for a judge behind such a server."""
    pytest.importorskip("openai")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Choosy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        yield ["--endpoint.url", url, "--endpoint.model", "m", "--endpoint.retries", "0"]
        server.shutdown()
        thread.join()


def reward_bench_rows(path: Path, *prompts: str) -> list[str]:
    rows = [
        {"id": str(i), "prompt": p, "chosen": "a", "rejected": "b", "subset": "hep-go"}
        for i, p in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--benchmark", "rewardbench", "--data", str(path), "--k", "1"]


def test_where_no_row_has_an_answer_there_is_no_table(tmp_path, capsys, endpoint) -> None:
    """But the server's words, and a status of 1."""
    rows = reward_bench_rows(tmp_path / "rows.jsonl", "forbidden 1", "forbidden 2")
    output = tmp_path / "out"
    assert main(["eval", *rows, *endpoint, "--output", str(output)]) == 1
    out, err = capsys.readouterr()
    assert "none of 2 rows had an answer" in err
    assert "not for you" in err
    assert "RewardBench" not in out
    assert not (output / "report.json").exists()
    assert not (output / "index.html").exists()


def test_rows_without_an_answer_are_said_and_end_with_1(tmp_path, capsys, endpoint) -> None:
    rows = reward_bench_rows(tmp_path / "rows.jsonl", "one", "forbidden", "three", "four")
    output = tmp_path / "out"
    command = ["eval", *rows, *endpoint, "--output", str(output)]
    assert main(command) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "RewardBench (incomplete: 1 row had no answer; partial: 3 of 2985 rows)" in shown
    assert "hep-go (lacks 1)" in shown
    assert "not for you" in shown
    report = read(output)
    assert (report["rows"], report["unanswered_rows"], report["unanswered_share"]) == (3, 1, 0.25)
    # Of three judgments none is a tie or wrong because of the fourth.
    assert report["votes"][0]["cells"]["hep-go"]["value"] in (0, 100 / 3, 200 / 3, 100)
    # No file for the leaderboard, which has no place for the word.
    assert not (output / "results").exists()
    # One in four may lack an answer: the report is as incomplete, and the status 0.
    assert main([*command, "--unanswered", "0.25"]) == 0
    assert "incomplete" in capsys.readouterr().out
    assert main([*command, "--unanswered", "2"]) == 2
    assert "give a share of rows" in capsys.readouterr().err
