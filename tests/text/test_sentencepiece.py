"""A folder that has only SentencePiece's tokenizer.model: its ids, its chats, and a judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import pytest

from grm_jax.cli import main
from grm_jax.models.config import LlamaConfig
from grm_jax.models.hf import save_folder
from grm_jax.models.model import Model
from grm_jax.models.spec import Rope
from grm_jax.presets import bundled
from grm_jax.text.tokenizer import Tokenizer
from tests.devices import one_device
from tests.text.families import ALL, CHATS, A, U, controls, dicts

# sentencepiece is no part of the dev extra: pip install sentencepiece protobuf.
pytestmark = pytest.mark.big
TEXTS = ["Hello, world 2026!", " \n\n a\n\n\nb \t ", "é 🦙\t\tz\n", "x<s></s>[INST]<0x0A>▁y", ""]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """(the folder, SentencePiece's own reading of it), as Llama 2's and Mistral's were made."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["What is the sum of two and three?", "The answer is right."] * 9),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=310,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    family = ALL["llama2"]
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "chat_template": family.template,
        **family.settings,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return folder, theirs


def test_ids_are_those_of_sentencepiece_and_no_text_becomes_a_control_token(made) -> None:
    folder, theirs = made
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.vocab_size == theirs.vocab_size()
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    for text in TEXTS:
        ids = tokenizer.encode_chat([U(text)])
        assert controls(tokenizer, ids) == [1]
        assert text.replace("▁", " ").strip() in tokenizer.decode(ids)
    assert tokenizer.encode("Hello, world 2026!") in (
        theirs.encode("Hello, world 2026!"),
        theirs.encode("Hello, world 2026!")[1:],  # no blank before it
    )


def test_chats_are_those_of_transformers_and_the_tokenizer_is_written_as_json(
    made, tmp_path
) -> None:
    from transformers import AutoTokenizer

    folder, _ = made
    tokenizer, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.save(tmp_path)
    for chat in (CHATS[0], CHATS[2], [U("q"), A("a"), U("q2")]):
        ids = tokenizer.encode_chat(chat)
        assert ids == list(theirs.apply_chat_template(dicts(chat), tokenize=True)["input_ids"])
        assert Tokenizer.load(tmp_path).encode_chat(chat) == ids
    assert (tmp_path / "tokenizer.json").is_file()


def test_a_judge_reads_it(made, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, theirs = made
    model = Model(
        LlamaConfig(theirs.vocab_size(), 2, 32, 32, 2, 1, 16, Rope(1e4), max_position=8192)
    )
    save_folder(model, jax.jit(model.init)(jax.random.key(0)), tmp_path / "model")
    for path in folder.iterdir():
        shutil.copy(path, "model")
    shutil.copytree(bundled("tiny") / "templates", "model/templates")
    row = {"id": "a", "prompt": "What is 1+1?", "responses": ["2", "</s>3"], "label": 0}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    options = "--model model --k 2 --max-new-tokens 4 --input rows.jsonl --output verdicts.jsonl"
    with one_device():
        assert main(["judge", *options.split()]) in (0, 1)  # a random model gives no scores
    (verdict,) = map(json.loads, Path("verdicts.jsonl").read_text().splitlines())
    # It was read, asked and sampled from; chance alone would make it write scores.
    assert "none of 2 samples had readable scores" in verdict["error"]
