"""The paper's four benchmarks and ReaLMistake on the shared rows, judged by a random Gemma-2."""

import json
from pathlib import Path

import jax
import pytest

from grm_jax.cli import main
from grm_jax.evals.benchmarks import BENCHMARKS, PAPER
from grm_jax.evals.report import read_rows
from grm_jax.judging.folder import bundled
from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf import save_folder
from grm_jax.models.model import Model
from grm_jax.text.tokenizer import Tokenizer

# One sample without chance, so that there is no greedy one beside it.
FEW = ["--k", "1", "--strategy.temperature", "0", "--slots", "4", "--limit", "2"]


@pytest.fixture(scope="module")
def judge(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for a model of two layers with the 16k tokenizer, which writes four tokens."""
    tokenizer = shared_data / "tokenizer" / "gemma2_layout_standin_16k_hf"
    size = Tokenizer.load(tokenizer).vocab_size
    model = Model(Gemma2Config(size, 2, 16, 32, 4, 2, 4, 4.0, max_position=8192))
    folder = tmp_path_factory.mktemp("random") / "model"
    save_folder(model, jax.jit(model.init)(jax.random.key(0)), folder, tokenizer=tokenizer)
    short = ["--max_new_tokens", "4", "--templates", str(bundled("tiny") / "templates")]
    return ["--model", str(folder), *short]


@pytest.mark.slow
def test_the_papers_four(shared_data: Path, judge: list[str], tmp_path: Path, capsys) -> None:
    data, output = tmp_path / "data", tmp_path / "paper"
    data.mkdir()
    for folder in (shared_data / "hub_schema").iterdir():
        (data / folder.name).symlink_to(folder)
    (data / "RMB_dataset").symlink_to(shared_data / "rmb" / "RMB_dataset")
    options = ["--benchmark", "paper", "--data", str(data), "--output", str(output)]
    assert main(["eval", *options, *judge, *FEW]) == 0
    shown = capsys.readouterr().out
    assert "DeepSeek-GRM-27B-RFT" in shown
    found = json.loads((output / "paper.json").read_text())
    assert found["partial"] == [benchmark.title for benchmark in PAPER]
    for benchmark in PAPER:
        report = json.loads((output / benchmark.name / "report.json").read_text())
        assert report["title"].startswith(f"{benchmark.title} (partial: ")
        assert report["rows"] == 2
        assert report["votes"][0]["cells"].keys() >= {benchmark.headline}
        assert (output / benchmark.name / "index.html").exists()
    # A random model has no scores: officially 0.5 on RewardBench.
    results = list((output / "rewardbench" / "results" / "eval-set").rglob("*.json"))
    (shares,) = [json.loads(path.read_text()) for path in results]
    assert {v for k, v in shares.items() if k in BENCHMARKS["rewardbench"].full} == {0.5}


@pytest.mark.slow
def test_realmistake_leaves_no_text(shared_data: Path, judge: list[str], tmp_path: Path) -> None:
    data = str(shared_data / "realmistake" / "data.zip")
    options = ["--benchmark", "realmistake", "--data", data, "--output", str(tmp_path)]
    assert main(["eval", *options, *judge, *FEW]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"] == 2
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    judged = {row["id"] for row in read_rows(tmp_path)}
    rows = [row for row in BENCHMARKS["realmistake"].read(data) if row.id in judged]
    # Only counts are compared, so that a failure quotes nothing either.
    texts = [text for row in rows for text in (*row.responses, row.prompt[-1].content)]
    parts = [line for text in texts for line in text.splitlines() if len(line) > 20]
    assert len(texts) == 4
    assert sum(part in written for part in parts) == 0
