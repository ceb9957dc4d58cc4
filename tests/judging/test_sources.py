"""Which judge a config opens: what it says, else what the model folder was made for."""

import json
from pathlib import Path

import jax
import pytest

from grm_jax.judging.config import JudgeConfig
from grm_jax.judging.endpoint import EndpointConfig, EndpointJudge
from grm_jax.judging.folder import bundled, folder_kind, load_model_folder
from grm_jax.judging.judge import Judge
from grm_jax.judging.sources import open_judge
from grm_jax.models.config import Gemma2Config
from grm_jax.models.hf import save_folder
from grm_jax.models.model import Model
from grm_jax.text.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that was made to choose."""
    words = Tokenizer.load(bundled("tiny"))
    model = Model(Gemma2Config(words.vocab_size, 2, 16, 16, 2, 1, 8, 8.0, max_position=256))
    params = jax.jit(model.init)(jax.random.key(0))
    save_folder(model, params, tmp_path / "model", tokenizer=words, extra={"kind": "judge"})
    return tmp_path / "model"


def test_the_kind_is_the_configs_else_the_folders_else_grm(folder: Path) -> None:
    found = [
        open_judge(JudgeConfig(model=model, kind=kind), "tiny", seed=0)
        for model, kind in [
            (str(folder), None),
            (str(folder), "grm"),
            (None, None),
            (None, "judge"),
        ]
    ]
    assert [judge.kind for judge in found if isinstance(judge, Judge)] == [
        "judge", "grm", "grm", "judge",
    ]  # fmt: skip
    assert folder_kind(folder) == load_model_folder(folder).kind == "judge"
    assert folder_kind("tiny") == "grm"
    assert Judge.load(folder).kind == "judge"


def test_a_kind_that_there_is_not_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "grm.json").read_text())
    (folder / "grm.json").write_text(json.dumps({**settings, "kind": "oracle"}))
    with pytest.raises(
        ValueError, match=r"grm\.json: kind is 'oracle'; it must be one of grm, judge"
    ):
        folder_kind(folder)


def test_what_scores_cannot_judge_by_writing() -> None:
    with pytest.raises(ValueError, match="head 'scalar'"):
        Judge.load("tiny-meta")


def test_an_endpoint_is_a_grm_unless_told_otherwise() -> None:
    pytest.importorskip("openai")
    endpoint = EndpointConfig("http://localhost:1/v1", "m")
    for given, found in ((None, "grm"), ("judge", "judge"), ("token-prob", "token-prob")):
        judge = open_judge(JudgeConfig(endpoint=endpoint, kind=given), "tiny", seed=0)
        assert isinstance(judge, EndpointJudge)
        assert judge.kind == found
    with pytest.raises(ValueError, match="can only judge by writing"):
        open_judge(JudgeConfig(endpoint=endpoint, kind="bt"), "tiny", seed=0)


def test_the_reference_is_the_configs() -> None:
    for reference in (False, True):
        judge = open_judge(JudgeConfig(reference=reference), "tiny", seed=0)
        assert isinstance(judge, Judge)
        assert judge.asking.reference is reference
