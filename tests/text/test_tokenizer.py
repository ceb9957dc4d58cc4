"""Ids equal those of transformers on harmless text, and plain text never gives a control id."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_jax.text.messages import Message, fold_system
from grm_jax.text.tokenizer import CHAT_TEMPLATE, Tokenizer

STANDIN = "tokenizer/gemma2_layout_standin_16k_hf"
CHATS = [
    [Message("user", "Hello, world 2026!")],
    [Message("user", "  a\n\n\nb \t ")],
    [
        Message("user", "<h1>x</h1>   y"),
        Message("assistant", "\nok "),
        Message("user", "é 🦙\t\tz"),
    ],
    [Message("system", "Be brief. "), Message("user", " q"), Message("assistant", "a")],
    [Message("user", "")],
]


@pytest.fixture(scope="module")
def tokenizer(shared_data: Path) -> Tokenizer:
    return Tokenizer.load(shared_data / STANDIN)


@pytest.fixture(scope="module")
def reference(shared_data: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared_data / STANDIN)


@pytest.fixture(scope="module")
def real_config(shared_data: Path) -> dict:
    return json.loads((shared_data / "tokenizer/gemma_hf_config/tokenizer_config.json").read_text())


def test_ids_and_sizes_are_gemmas(tokenizer):
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (0, 1, 2)
    assert (tokenizer.start_of_turn_id, tokenizer.end_of_turn_id) == (106, 107)
    assert tokenizer.stop_ids == (1, 107)
    assert tokenizer.vocab_size == 16_000


def test_the_hash_is_that_of_the_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.sha256 == tokenizer.sha256
    (tmp_path / "tokenizer.json").write_text((tmp_path / "tokenizer.json").read_text() + "\n")
    assert Tokenizer.load(tmp_path).sha256 != tokenizer.sha256


def test_harmless_text_is_encoded_as_by_transformers(tokenizer, reference, shared_data):
    rows = (shared_data / "ultrafeedback_binarized_sample/eval_clean.jsonl").read_text()
    texts = [json.loads(line)["chosen"] for line in rows.splitlines()[:100]]
    for text in [*texts, "", " ", "\n\n", "<table><td>a</td>", "a < b > c [d] <e f>"]:
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False)


def test_layout_tokens_are_those_of_the_real_tokenizer(tokenizer, shared_data):
    """The stand-in shares ids 108..216 (newlines, spaces, HTML) with Gemma-2; the rest differs."""
    golden = json.loads((shared_data / "tokenizer/gemma2_golden_vectors.json").read_text())
    seen = 0
    for case in golden["hf_cases"]:
        expected = [i for i in case["ids"] if 108 <= i <= 216]
        assert [i for i in tokenizer.encode(case["text"]) if 108 <= i <= 216] == expected
        seen += len(expected)
        if max(case["ids"]) <= 472:
            assert [tokenizer.bos_id, *tokenizer.encode(case["text"])] == case["ids"]
    assert seen > 10


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("generation_prompt", [True, False])
def test_chats_are_encoded_as_by_transformers(
    tokenizer, reference, real_config, chat, generation_prompt
):
    turns = [{"role": m.role, "content": m.content} for m in fold_system(chat)]
    ids = tokenizer.encode_chat(chat, generation_prompt=generation_prompt)
    for template in (None, real_config["chat_template"], CHAT_TEMPLATE):
        expected = reference.apply_chat_template(
            turns, add_generation_prompt=generation_prompt, chat_template=template
        )
        assert ids == list(expected["input_ids"])


@pytest.mark.parametrize(
    "chat",
    [
        [Message("assistant", "a")],
        [Message("user", "a"), Message("user", "b")],
        [Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")],
    ],
)
def test_turns_that_do_not_alternate_are_refused(tokenizer, chat):
    with pytest.raises(ValueError, match="a chat begins with the user"):
        tokenizer.encode_chat(chat)


def test_a_saved_tokenizer_is_read_by_transformers(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    turns = [{"role": "user", "content": "What is 37+48?"}]
    expected = theirs.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert tokenizer.encode_chat([Message("user", "What is 37+48?")]) == list(expected)
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (0, 1, 2)


def test_a_completion_ends_its_turn(tokenizer):
    assert tokenizer.encode_completion("85") == [*tokenizer.encode("85"), 107]


def test_no_added_token_of_gemma_but_layout_comes_out_of_text(tokenizer, real_config):
    """All 249 added tokens of the real tokenizer_config, alone and inside words."""
    texts = [token["content"] for token in real_config["added_tokens_decoder"].values()]
    assert len(texts) == 249
    layout = {*range(108, 217), *range(15969, 15999)}
    for text in texts:
        for around in (text, f"a{text}b", text * 3, f"<{text}>", f"[{text}]"):
            ids = tokenizer.encode(around)
            assert tokenizer.decode(ids) == around.replace("\u2581", " ")
            assert tokenizer.control_ids.isdisjoint(ids)
            added = [i for i in ids if i <= 216 or i >= 15968]
            assert set(added) <= layout, (around, added)


def test_the_name_of_a_byte_is_not_the_byte(tokenizer):
    assert tokenizer.encode("\x00") == [217]
    assert tokenizer.encode("<0x0A>") != tokenizer.encode("\n")
    assert tokenizer.decode(tokenizer.encode("<0x0A>")) == "<0x0A>"


def test_lone_surrogates_do_not_stop_the_encoder(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


CONTROLS = ["<bos>", "<eos>", "<pad>", "<mask>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
CONTROLS += ["<unused0>", "<unused98>", "<unused99>", "<2mass>", "[@BOS@]", "[toxicity=0]"]
PIECES = st.one_of(
    st.sampled_from(CONTROLS),
    st.sampled_from(CONTROLS).flatmap(lambda c: st.integers(1, len(c) - 1).map(lambda i: c[:i])),
    st.sampled_from(["<", ">", "\n", "<0x0A>", "\x00", "\u200d", "\ufe0f", "\r\n", "<h1>"]),
    st.text(max_size=5),
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_text_comes_back_and_holds_no_control_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.control_ids.isdisjoint(ids)
    # Gemma's own normaliser takes U+2581 for a space.
    assert tokenizer.decode(ids) == text.replace("\u2581", " ")


def test_a_tokenizer_that_is_not_there_is_refused_in_a_sentence(tmp_path, shared_data, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json: copy"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        with pytest.raises(FileNotFoundError, match=r"pip install transformers sentencepiece; or"):
            Tokenizer.load(tmp_path)
    with pytest.raises(ValueError, match=r"transformers could not make one \(.*: pip install"):
        Tokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no tokenizer at"):
        Tokenizer.load(tmp_path / "none" / "here")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"not a tokenizer\.json that can be read"):
        Tokenizer.load(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="the tokenizer of nobody/nothing could not be had"):
        Tokenizer.load("nobody/nothing")


def test_a_tokenizer_of_another_layout_is_refused(tmp_path):
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "a": 3}
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": []}))
    with pytest.raises(ValueError, match="no token <start_of_turn>, <end_of_turn>"):
        Tokenizer.load(tmp_path)
