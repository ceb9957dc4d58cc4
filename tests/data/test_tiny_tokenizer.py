"""The tiny GRM's tokenizer: reproducible, loadable by transformers, able to encode any text."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from grm_jax.data.synthetic import World
from grm_jax.data.tiny_tokenizer import SPECIAL_TOKENS, VOCAB_SIZE, corpus, train_tokenizer
from grm_jax.text.prompts import load_templates, render
from grm_jax.text.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[2] / "grm_jax" / "assets" / "tiny"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(FOLDER)


@pytest.fixture(scope="module")
def chats():
    templates, world = load_templates(FOLDER / "templates"), World(200)
    lessons = [world[i] for i in range(200)]
    return [
        (
            render(
                lesson.example,
                templates.single if lesson.binary else templates.grm,
                hint=lesson.hinted,
            ),
            lesson.critique,
        )
        for lesson in lessons
    ]


@pytest.mark.slow
def test_training_again_gives_the_frozen_file(tokenizer):
    again = train_tokenizer(corpus(load_templates(FOLDER / "templates")))
    frozen = json.loads((FOLDER / "tokenizer.json").read_text())
    assert json.loads(again.to_str())["model"] == frozen["model"]


def test_size_and_control_tokens(tokenizer):
    assert tokenizer.vocab_size == VOCAB_SIZE
    ids = [tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id]
    assert ids == [SPECIAL_TOKENS.index(name) for name in ("<pad>", "<eos>", "<bos>")]


@given(st.text())
def test_any_text_survives(tokenizer, text):
    ids = tokenizer.encode(text)
    assert 3 not in ids
    assert tokenizer.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16")


def test_transformers_loads_the_folder_and_agrees(tokenizer, chats):
    theirs = AutoTokenizer.from_pretrained(FOLDER)
    for messages, text in chats[:20]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        kwargs = {"add_generation_prompt": True, "tokenize": False}
        rendered = theirs.apply_chat_template(turns, **kwargs)
        assert theirs(rendered, add_special_tokens=False).input_ids == tokenizer.encode_chat(
            messages
        )
        assert theirs(text, add_special_tokens=False).input_ids == tokenizer.encode(text)


def test_prompts_and_outputs_are_short(tokenizer, chats):
    prompts = [len(tokenizer.encode_chat(messages)) for messages, _ in chats]
    outputs = [len(tokenizer.encode_completion(text)) for _, text in chats]
    assert sum(prompts) / len(prompts) < 30
    assert sum(outputs) / len(outputs) < 48
    assert max(prompts) + max(outputs) < 120  # of the 128 that a row of training holds


def test_a_worked_step_is_an_operation_and_its_result(tokenizer):
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("3 +5=8 *7=6 so 6.")]
    assert pieces[:5] == ["3", " +5", "=8", " *7", "=6"]
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode(" A AB=B CD=B so B.")]
    assert pieces[:5] == [" A", " AB", "=B", " CD", "=B"]
