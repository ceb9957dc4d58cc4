"""Prompts and answers as trainers hand them over."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import Environment

from grm_jax.rewards.turns import answer_in, prompt_of, response_text
from grm_jax.text.tokenizer import CHAT_TEMPLATE

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TALK = [
    {"role": "user", "content": "What is 1+1?\nSay it."},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 2+2?"},
]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, LLAMA], ids=["gemma", "qwen", "llama"])
@pytest.mark.parametrize("opened", [True, False])
def test_a_rendered_chat_is_read_back(template: str, opened: bool) -> None:
    environment = Environment()
    for messages in (TALK, TALK[:1], [{"role": "system", "content": "Be brief."}, *TALK]):
        if template is CHAT_TEMPLATE and messages[0]["role"] == "system":
            continue
        rendered = environment.from_string(template).render(
            messages=messages, bos_token="<bos>", add_generation_prompt=opened
        )
        assert prompt_of(rendered) == messages


def test_plain_text_stays_as_it_is() -> None:
    for text in ("What is 1+1?", "", "Is <b>this</b> a turn?"):
        assert prompt_of(text) == text


def test_the_answer_in_a_query_comes_after_its_prompt() -> None:
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert answer_in(f"{prompt}82<|im_end|>", prompt) == "82"
    with pytest.raises(ValueError, match="does not begin with its prompt"):
        answer_in("ser\nhi<|im_end|>\n<|im_start|>assistant\n82", prompt)


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("82", "82"),
        ([{"role": "assistant", "content": "82"}], "82"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "82"}]}], "82"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], ""),
        (
            [
                {"role": "assistant", "content": "I look it up.", "tool_calls": [{}]},
                {"role": "tool", "content": "82"},
                {"role": "assistant", "content": "It is 82."},
            ],
            "It is 82.",
        ),
    ],
)
def test_the_last_turn_is_judged(completion: Any, text: str) -> None:
    assert response_text(completion) == text


@pytest.mark.parametrize("completion", [None, 82, [], [{"role": "tool", "content": "82"}], ["82"]])
def test_what_is_no_completion_is_said(completion: Any) -> None:
    with pytest.raises(ValueError, match="completion"):
        response_text(completion)
