"""A small tokenizer of each family: its own special tokens, turns and settings, and byte-level BPE.

The templates render what the published ones do for chats without tools, in our own words. A family
is a row here; `test_chat.py` and `tests/cli/test_families.py` take every row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from grm_jax.text.gemma import CHAT_TEMPLATE
from grm_jax.text.messages import Message
from grm_jax.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Family:
    """What a family's folders say of their chats.

    settings: of tokenizer_config.json. stops: eos_token_id of generation_config.json, by name.
    system: whether the template shows a system turn. said: texts that a response may hold, besides
    the names of all special tokens. file: the template lies in a file of its own.
    """

    special: tuple[str, ...]
    template: str
    settings: dict[str, Any]
    stops: tuple[str, ...] = ()
    system: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    file: bool = False
    prefix: str | None = None


GEMMA3 = """\
{{ bos_token }}
{%- set first = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' -%}
{%- set turns = messages[1:] if first else messages -%}
{%- for turn in turns -%}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if turn['role'] == 'assistant' else turn['role']) + '\\n' }}
    {{- first if loop.first else '' }}
    {%- if turn['content'] is string %}{{ turn['content'] | trim }}{% endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
"""
QWEN3 = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set found = namespace(looking=true, last=messages|length - 1) %}
{%- for turn in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if found.looking and turn.role == 'user'
        and not (turn.content.startswith('<tool_response>')
                 and turn.content.endswith('</tool_response>')) %}
        {%- set found.looking = false %}
        {%- set found.last = index %}
    {%- endif %}
{%- endfor %}
{%- for turn in messages %}
    {%- if turn.role == 'user' or (turn.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}
    {%- elif turn.role == 'assistant' %}
        {%- set said, thought = turn.content, '' %}
        {%- if turn.reasoning_content is defined and turn.reasoning_content is not none %}
            {%- set thought = turn.reasoning_content %}
        {%- elif '</think>' in turn.content %}
            {%- set said = turn.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thought = turn.content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > found.last and (loop.last or thought) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
            {{- said.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + said }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
QWEN2 = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for turn in messages %}
    {%- if turn.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# Turns between plain words.
DEEPSEEK2 = """\
{{ bos_token }}\
{% for turn in messages %}\
{% if turn['role'] == 'user' %}{{ 'User: ' + turn['content'] + '\\n\\n' }}\
{% elif turn['role'] == 'assistant' %}{{ 'Assistant: ' + turn['content'] + eos_token }}\
{% elif turn['role'] == 'system' %}{{ turn['content'] + '\\n\\n' }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
DEEPSEEK3 = """\
{% set told = namespace(system='') %}\
{%- for turn in messages %}\
{%- if turn['role'] == 'system' %}{% set told.system = turn['content'] %}{%- endif %}\
{%- endfor %}\
{{ bos_token }}{{ told.system }}\
{%- for turn in messages %}\
{%- if turn['role'] == 'user' %}{{ '<｜User｜>' + turn['content'] }}{%- endif %}\
{%- if turn['role'] == 'assistant' %}\
{{ '<｜Assistant｜>' + turn['content'] + '<｜end▁of▁sentence｜>' }}\
{%- endif %}\
{%- endfor %}\
{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""
SMOLLM2 = """\
{% for turn in messages %}\
{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful AI assistant.<|im_end|>\\n' }}\
{% endif %}\
{{'<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>' + '\\n'}}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d %b %Y') %}
    {%- else %}
        {%- set date_string = '26 Jul 2024' %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set about = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set about = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Cutting Knowledge Date: December 2023\\n' }}
{{- 'Today Date: ' + date_string + '\\n\\n' }}
{{- about }}
{{- '<|eot_id|>' }}
{%- for turn in messages %}
    {{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' }}
    {{- turn['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
LLAMA2 = """\
{% if messages[0]['role'] == 'system' %}\
{% set about = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}\
{% set messages = messages[1:] %}\
{% else %}{% set about = '' %}{% endif %}\
{% for turn in messages %}\
{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate') }}\
{% endif %}\
{% if turn['role'] == 'user' %}\
{{ bos_token + '[INST] ' + (about if loop.first else '') + turn['content'].strip() + ' [/INST]' }}\
{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}\
{% endfor %}"""
# Reasoning that the template begins, as DeepSeek-R1's and Qwen3-Thinking's do.
THINKING = """\
{{ bos_token }}\
{% for turn in messages %}\
{% if turn['role'] == 'system' %}{{ turn['content'] }}{% endif %}\
{% if turn['role'] == 'user' %}{{ '<｜User｜>' + turn['content'] }}{% endif %}\
{% if turn['role'] == 'assistant' %}\
{% set said = turn['content'].split('</think>')[-1] %}\
{{ '<｜Assistant｜>' + said + '<｜end▁of▁sentence｜>' }}\
{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"""

GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
DEEPSEEKS = dict(zip(("bos_token", "eos_token"), DEEPSEEK, strict=True), pad_token=DEEPSEEK[1])
LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|eom_id|>",
         "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")  # fmt: skip
FAMILIES = {
    "gemma2": Family(
        GEMMA,
        CHAT_TEMPLATE,
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
        stops=("<eos>", "<end_of_turn>"),
        system=False,
        plain=("<unused0>",),
    ),
    "gemma3": Family(
        (*GEMMA, "<start_of_image>"),
        GEMMA3,
        {"bos_token": "<bos>", "eos_token": "<end_of_turn>", "pad_token": "<pad>"},
        stops=("<eos>", "<end_of_turn>"),
        plain=("<unused0>", "[multimodal]"),
        file=True,
    ),
    "qwen3": Family(
        (*CHATML, "<|object_ref_start|>", "<|vision_pad|>"),
        QWEN3,
        {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        stops=("<|im_end|>", "<|endoftext|>"),
        arguments={"enable_thinking": False},
        plain=("<think>", "</think>", "<tool_response>", "</tool_response>", "<|fim_pad|>"),
    ),
    "qwen2": Family(
        (*CHATML, "<|object_ref_start|>", "<|vision_pad|>"),
        QWEN2,
        {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        stops=("<|im_end|>", "<|endoftext|>"),
        plain=("<tool_call>", "</tool_call>", "<|fim_pad|>"),
    ),
    "deepseek_v2": Family(DEEPSEEK, DEEPSEEK2, DEEPSEEKS, stops=DEEPSEEK[1:]),
    "deepseek_v3": Family(
        DEEPSEEK,
        DEEPSEEK3,
        DEEPSEEKS,
        stops=DEEPSEEK[1:],
        plain=("<｜User｜>", "<｜Assistant｜>", "<｜fim▁hole｜>"),
    ),
    "llama": Family(
        LLAMA,
        LLAMA3,
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        arguments={"date_string": "27 Nov 2026"},
    ),
}
# Turns of other kinds, whose models are those of the families above.
STYLES = {
    "smollm2": Family(
        (*CHATML, "<repo_name>", "<gh_stars>"),
        SMOLLM2,
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": {"__type": "AddedToken", "content": "<|im_end|>", "special": True},
        },
    ),
    "llama2": Family(
        ("<unk>", "<s>", "</s>"),
        LLAMA2,
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        prefix="first",
    ),
    "thinking": Family(
        DEEPSEEK,
        THINKING,
        {"bos_token": DEEPSEEK[0], "eos_token": DEEPSEEK[1]},
        plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ),
}
ALL = FAMILIES | STYLES


def make_tokenizer(family: Family, words: Iterable[str] = ()) -> tokenizers.Tokenizer:
    """A tokenizer with the family's tokens, one for each byte, and pairs of blanks.

    words: what is one token besides.
    """
    metaspace = family.prefix is not None
    if metaspace:
        alphabet, blank = ["▁", *(f"<0x{byte:02X}>" for byte in range(256))], "▁"
    else:
        alphabet, blank = sorted(pre_tokenizers.ByteLevel.alphabet()), "Ċ"
    names = [*family.special, *alphabet, 2 * blank]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocabulary, [(blank, blank)], byte_fallback=metaspace)
    )
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme=family.prefix, split=False
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(family.special))
    tokenizer.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in family.plain])
    tokenizer.add_tokens([tokenizers.AddedToken(word, normalized=False) for word in words])
    return tokenizer


def write_words(family: Family, folder: Path, words: Iterable[str] = ()) -> Path:
    """The files of the family's tokenizer, as its folders have them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(family, words)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **family.settings}
    if family.file:
        (folder / "chat_template.jinja").write_text(family.template)
    else:
        settings["chat_template"] = family.template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if family.stops:
        ids = [tokenizer.token_to_id(name) for name in family.stops]
        stops = ids if len(ids) > 1 else ids[0]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    return folder


def U(text: str) -> Message:
    return Message("user", text)


def A(text: str) -> Message:
    return Message("assistant", text)


def S(text: str) -> Message:
    return Message("system", text)


CHATS = [
    [U("Hello, world 2026!")],
    [U(" \n\n a\n\n\nb \t ")],
    [U("<h1>x</h1>   y"), A("ok "), U("é 🦙\t\tz\n")],
    [S("Be brief. "), U(" q")],
    [S("Be brief."), U("q"), A("a"), U("\nq2"), A("\n\na2\n")],
]


def dicts(chat: list[Message]) -> list[dict[str, str]]:
    """The turns as transformers takes them."""
    return [{"role": turn.role, "content": turn.content} for turn in chat]


def controls(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """The control tokens among ids."""
    return [i for i in ids if i in tokenizer.control_ids]
