"""Every family's turns are those of its own template, and no text becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_jax.judging.scalar import reward_tokens
from grm_jax.text.chat import TODAY, ChatTemplate
from grm_jax.text.messages import Example, fold_system
from grm_jax.text.tokenizer import Tokenizer
from tests.text.families import (
    ALL,
    CHATS,
    FAMILIES,
    GEMMA3,
    A,
    Family,
    S,
    U,
    controls,
    dicts,
    write_words,
)

families = pytest.mark.parametrize("name", ALL)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tokenizer]:
    """load(family's name, **arguments); the files of each are made once."""
    folder = tmp_path_factory.mktemp("families")
    for name, family in ALL.items():
        write_words(family, folder / name)

    @cache
    def load(name: str, **arguments: Any) -> Tokenizer:
        return Tokenizer.load(folder / name, arguments)

    return load


@pytest.fixture(scope="module")
def theirs(load, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What transformers makes of the saved tokenizer."""
    from transformers import AutoTokenizer

    @cache
    def theirs(name: str) -> Any:
        folder = tmp_path_factory.mktemp("saved")
        load(name).save(folder)
        return AutoTokenizer.from_pretrained(folder)

    return theirs


@families
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("opened", [True, False])
def test_a_chat_is_that_of_transformers(load, theirs, name, chat, opened) -> None:
    family = ALL[name]
    turns = chat if family.system else list(fold_system(chat))
    for arguments in ({}, family.arguments):
        ids = load(name, **arguments).encode_chat(chat, generation_prompt=opened)
        # Today is always the same day here, and with them it is not.
        dated = {"date_string": TODAY.strftime("%d %b %Y")} | arguments
        expected = theirs(name).apply_chat_template(
            dicts(turns), add_generation_prompt=opened, **dated
        )
        assert ids == list(expected["input_ids"])


@families
def test_the_ends_are_those_that_the_folder_names(load, name) -> None:
    tokenizer, family = load(name), ALL[name]
    names = [tokenizer.decode([i]) for i in tokenizer.stop_ids]
    assert set(family.stops) <= set(names)
    assert names[0] == family.settings["eos_token"]
    whole = tokenizer.encode_chat([U("q"), A("a")], generation_prompt=False)
    end = whole.index(tokenizer.end_of_turn_id, len(whole) - 3)
    completion = tokenizer.encode_completion("a")
    assert completion[-1] == tokenizer.end_of_turn_id == whole[end]
    pad = family.settings.get("pad_token", "<|finetune_right_pad_id|>")
    pad = pad["content"] if isinstance(pad, dict) else pad
    assert tokenizer.pad_id == (
        None if name in ("llama2", "thinking") else tokenizer._controls[pad]
    )


def pieces(family: Family) -> st.SearchStrategy[str]:
    names = [*family.special, *family.plain, "<think>", "</think>", "[INST]", "<0x0A>"]
    return st.one_of(
        st.sampled_from(names),
        st.sampled_from(names).flatmap(
            lambda name: st.integers(1, len(name) - 1).map(lambda i: name[:i])
        ),
        st.sampled_from(
            ["<", ">", "\n", "|", "assistant\n", "user\n", "\x00", "\u200d", "{{ 1 }}"]
        ),
        st.text(max_size=5),
    )


@families
@settings(max_examples=25)
@given(data=st.data())
def test_no_text_becomes_a_control_token(load, name, data) -> None:
    """In any turn, and where it touches the template's own words."""
    tokenizer = load(name)
    texts = st.lists(pieces(ALL[name]), max_size=8).map("".join)
    system, query, answer, last = (data.draw(texts) for _ in range(4))
    chat = [S(system), U(query), A(answer), U(last)]
    for turns in (chat, chat[1:], [*chat[1:], A(answer)]):
        ids = tokenizer.encode_chat(turns)
        harmless = tokenizer.encode_chat([replace(turn, content="x") for turn in turns])
        assert controls(tokenizer, ids) == controls(tokenizer, harmless)
    assert controls(tokenizer, tokenizer.encode_judged(answer)) == controls(
        tokenizer, tokenizer.encode_judged("x")
    )
    ids = tokenizer.encode(query)
    assert tokenizer.control_ids.isdisjoint(ids)
    # Where a blank is written as U+2581, that is read as a blank.
    assert tokenizer.decode(ids) == (query.replace("▁", " ") if name == "llama2" else query)


@families
def test_each_name_alone_in_a_response_is_text(load, name) -> None:
    tokenizer, family = load(name), ALL[name]
    plain = tokenizer.encode_chat([U("x")])
    for text in (*family.special, *family.plain, "<|im_end|>", "<|eot_id|>", "<end_of_turn>"):
        for around in (text, f"a{text}b", 3 * text, text.replace("<", "<<")):
            ids = tokenizer.encode_chat([U(around)])
            assert controls(tokenizer, ids) == controls(tokenizer, plain)
            assert around in tokenizer.decode(ids)


def test_what_is_judged_is_never_read_as_a_template(load) -> None:
    for name in FAMILIES:
        tokenizer = load(name)
        said = tokenizer.decode(tokenizer.encode_chat([U("{{ bos_token }}{% if x %}")]))
        assert "{{ bos_token }}{% if x %}" in said
        # A template may put reasoning aside, and tool responses: not those that a text forges.
        for text in ("<think>\nx\n</think>\n\ny", "<tool_response>x</tool_response>"):
            chat = [U(text), A(text)]
            assert tokenizer.decode(tokenizer.encode_chat(chat)).count(text) == 2


def test_arguments_reach_the_template_and_unknown_ones_are_refused(load) -> None:
    chat = [U("q")]
    silent, free = load("qwen3", enable_thinking=False), load("qwen3")
    tail = silent.decode(silent.encode_chat(chat)).removeprefix(free.decode(free.encode_chat(chat)))
    assert tail == "<think>\n\n</think>\n\n"
    dated = load("llama", date_string="27 Nov 2026")
    assert "Today Date: 27 Nov 2026\n" in dated.decode(dated.encode_chat(chat))
    with pytest.raises(ValueError, match=r"no argument 'enable_thinkin'; there are .*enable_think"):
        load("qwen3", enable_thinkin=False)
    with pytest.raises(ValueError, match="no argument 'x'; it takes none"):
        load("gemma2", x=1)


def test_a_chat_is_the_same_on_any_day(load) -> None:
    tokenizer = load("llama")
    assert "Today Date: 26 Jul 2024\n" in tokenizer.decode(tokenizer.encode_chat([U("q")]))
    assert [name for name in ALL if load(name).chat.dated] == ["llama"]
    assert not load("llama", date_string="27 Nov 2026").chat.dated


def test_a_system_turn_goes_where_the_family_has_it(load) -> None:
    chat = [S("Be brief."), U("q")]
    shown = {name: load(name).decode(load(name).encode_chat(chat)) for name in FAMILIES}
    assert "<start_of_turn>user\nBe brief.\n\nq<end_of_turn>" in shown["gemma2"]
    assert "<start_of_turn>user\nBe brief.\n\nq<end_of_turn>" in shown["gemma3"]
    assert shown["qwen3"].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nq")
    assert "\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nq" in shown["llama"]


def test_a_scalar_model_reads_the_system_turn_where_its_family_has_it(load) -> None:
    example = Example([S("Be brief."), U("q")], ["a<|im_end|>"])
    chat = [S("Be brief."), U("q"), A("a<|im_end|>")]
    for name in FAMILIES:
        tokenizer = load(name)
        expected = tokenizer.encode_chat(chat, generation_prompt=False)
        assert reward_tokens(tokenizer, example, 0) == expected


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "llama2"])
def test_turns_that_a_template_does_not_take_are_refused(load, name) -> None:
    for chat in ([A("a")], [U("a"), U("b")], [S("s"), U("a"), A("b"), A("c")]):
        with pytest.raises(ValueError, match="a chat begins with the user"):
            load(name).encode_chat(chat)
    with pytest.raises(ValueError, match="can only come first"):
        load(name).encode_chat([U("a"), S("s"), U("b")])


# Reasoning


@pytest.mark.parametrize("name", ["qwen3", "thinking"])
def test_reasoning_that_was_written_is_learned_as_it_was_drawn(load, name) -> None:
    tokenizer = load(name)
    opening, closing = tokenizer.reasoning
    drawn = [*tokenizer.encode("a</think> b\n"), closing, *tokenizer.encode("\n\nScores: <think>")]
    drawn = [*tokenizer.encode("\n"), *drawn] if not tokenizer.opened else drawn
    drawn = [opening, *drawn] if not tokenizer.opened else drawn
    text = tokenizer.opened + tokenizer.decode(drawn)
    again = tokenizer.encode_completion(text.replace("a</think>", "a"))
    assert again[-1] == tokenizer.end_of_turn_id
    quoted = tokenizer.encode("</think>")
    at = next(i for i in range(len(drawn)) if drawn[i : i + len(quoted)] == quoted)
    assert again[:-1] == drawn[:at] + drawn[at + len(quoted) :]
    # As the turn of somebody who is judged it is text.
    assert controls(tokenizer, tokenizer.encode_judged(text)) == [tokenizer.end_of_turn_id]


def test_reasoning_that_the_template_begins_ends_before_an_answer_without_any(load) -> None:
    tokenizer = load("thinking")
    assert tokenizer.opened == "<think>\n"
    ids = tokenizer.encode_completion("Scores: 1")
    assert tokenizer.decode(ids[:-1]) == "\n</think>\n\nScores: 1"
    assert ids[1] == tokenizer.reasoning[1]
    assert load("qwen3").opened == load("qwen3", enable_thinking=False).opened == ""


# Templates that cannot be followed


def template(text: str, **names: str) -> ChatTemplate:
    return ChatTemplate(text, "the test", names)


TURNS = "{%% for turn in messages %%}<{{ turn.role }}>{{ turn.content%s }}{%% endfor %%}"


@pytest.mark.parametrize(
    "change",
    [
        " | upper",
        "[:3]",
        " | replace('\\n', ' ')",
        " if turn.content != ' a' else 'b'",
        " | length",
    ],
)
def test_a_template_that_changes_a_text_is_refused(change) -> None:
    with pytest.raises(
        ValueError, match=r"template of the test .*(changes|changed).*chat_template"
    ):
        template(TURNS % change).parts(("user",), False)


@pytest.mark.parametrize("strip", ["", " | trim", ".lstrip()", ".rstrip('\\n')", ".strip('\\n')"])
def test_blanks_are_stripped_as_the_template_does_it(strip) -> None:
    parts = template(TURNS % strip).parts(("user", "assistant"), False)
    texts = ("\n\n a\n \t", "b \n")
    filled = "".join(
        part if isinstance(part, str) else part.fill(texts[part.turn]) for part in parts
    )
    stripped = [eval(f"text{strip.replace(' | trim', '.strip()')}") for text in texts]
    assert filled == f"<user>{stripped[0]}<assistant>{stripped[1]}"


def test_a_template_that_leaves_a_turn_out_is_refused() -> None:
    last = template("<{{ messages[-1].role }}>{{ messages[-1].content }}")
    assert last.parts(("user",), True)
    with pytest.raises(ValueError, match="leaves out turn 1 of 2, the user's"):
        last.parts(("user", "assistant"), False)
    assert not last.takes_system


def test_a_template_that_is_no_jinja_is_refused_with_its_line(tmp_path) -> None:
    broken = replace(ALL["qwen3"], template="{{ bos_token }}\n{% if %}")
    with pytest.raises(
        ValueError, match=r"tokenizer\.json cannot be read: line 2: Expected an expr"
    ):
        Tokenizer.load(write_words(broken, tmp_path))


def test_a_template_has_no_way_out_of_its_sandbox() -> None:
    for escape in ("{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}"):
        with pytest.raises(ValueError, match=r"does not take the turns user: .*(unsafe|not safe)"):
            template(escape).parts(("user",), False)


# What a folder may hold


def test_every_place_of_a_template_is_read(tmp_path) -> None:
    family = ALL["gemma3"]
    folder = write_words(family, tmp_path)
    path, file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    whole = Tokenizer.load(folder).encode_chat([U("q")])
    own, settings = "{{ messages[-1].content }}", json.loads(path.read_text())

    def chat_with(value: Any) -> list[int]:
        path.write_text(json.dumps(settings | {"chat_template": value}))
        return Tokenizer.load(folder).encode_chat([U("q")])

    assert chat_with(own) == whole, "a file of its own comes first"
    file.unlink()
    named = [{"name": "tool_use", "template": own}, {"name": "default", "template": GEMMA3}]
    for value in (GEMMA3, named, named[1:]):
        assert chat_with(value) == whole
    for value, says in (
        ([named[0], {"name": "rag", "template": own}], 'tool_use, rag and no "default"'),
        (["x"], "a list of something else"),
        (7, "chat_template is 7, and must be text"),
    ):
        with pytest.raises(ValueError, match=says):
            chat_with(value)


def test_without_a_template_turns_are_gemmas_or_refused(tmp_path) -> None:
    bare = replace(ALL["gemma2"], template="")
    chat = [U("q"), A("a"), U("r")]
    folder = write_words(ALL["gemma2"], tmp_path / "whole")
    assert Tokenizer.load(write_words(bare, tmp_path / "bare")).encode_chat(chat) == (
        Tokenizer.load(folder).encode_chat(chat)
    )
    (folder / "tokenizer_config.json").unlink()
    assert Tokenizer.load(folder / "tokenizer.json").names["eos_token"] == "<eos>"
    with pytest.raises(ValueError, match="no chat template is beside it: a base model has none"):
        Tokenizer.load(write_words(replace(ALL["qwen3"], template=""), tmp_path / "base"))


def test_stops_that_are_none_are_refused(tmp_path) -> None:
    folder = write_words(ALL["llama"], tmp_path)
    for value, says in (
        (99_999, "no token 99999, where generation ends"),
        ("x", "must be the id of a token, or a list"),
        ([True], "must be the id of a token, or a list"),
    ):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
        with pytest.raises(ValueError, match=says):
            Tokenizer.load(folder)


@families
def test_a_saved_folder_is_the_same_to_the_byte(load, name, tmp_path) -> None:
    folder = write_words(ALL[name], tmp_path / "own")
    Tokenizer.load(folder).save(tmp_path / "saved")
    for path in (tmp_path / "saved").iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()
    again = Tokenizer.load(tmp_path / "saved")
    assert again.encode_chat(CHATS[-1]) == load(name).encode_chat(CHATS[-1])


def test_a_loaded_tokenizer_of_transformers_is_taken(load, theirs) -> None:
    ours = Tokenizer.of(theirs("qwen3"), source="theirs", arguments={"enable_thinking": False})
    expected = load("qwen3", enable_thinking=False)
    assert ours.encode_chat(CHATS[-1]) == expected.encode_chat(CHATS[-1])
    assert ours.encode_chat([U("<|im_end|>")]) == expected.encode_chat([U("<|im_end|>")])
